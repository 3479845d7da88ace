"""Where images come from: built-in digits, TensorFlow Datasets, .npz files."""

import dataclasses
import zipfile

import numpy as np

from keras_dropblock.data import tfds
from keras_dropblock.data.batches import ArrayBatches, DeviceBatches
from keras_dropblock.data.errors import DataError
from keras_dropblock.data.normalise import channel_statistics


@dataclasses.dataclass(frozen=True)
class Splits:
    """Training and test images of one data set.

    Attributes:
        x_train, x_test: uint8 (images, height, width, channels).
        y_train, y_test: int64 (images,), from 0.
        class_names: one name for each class, in the order of the labels.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def image_shape(self):
        return self.x_train.shape[1:]

    def size(self, split):
        """Number of images in "train" or "test"."""
        return len(getattr(self, f"x_{split}"))

    def normalisation(self):
        """(mean, std) of the training images, each one number a channel."""
        return channel_statistics(self.x_train)

    def batches(
        self, split, batch_size, normalise, *, on_device=False, **arguments
    ):
        """Batches of a split, "train" or "test".

        Args:
            on_device: whether the images shall lie on a JAX device.
            Others as of `ArrayBatches`.
        """
        kind = DeviceBatches if on_device else ArrayBatches
        return kind(
            getattr(self, f"x_{split}"),
            getattr(self, f"y_{split}"),
            len(self.class_names),
            batch_size,
            normalise,
            **arguments,
        )


def load(
    dataset,
    *,
    data_dir=None,
    train_split="train",
    test_split="test",
    image_size=None,
):
    """Load a data set into memory.

    Args:
        dataset: `"digits"` for the handwritten digits that scikit-learn
            ships, a path that ends in `.npz`, or the name of any image
            classification set of TensorFlow Datasets, such as `"cifar10"`.
        data_dir: folder of TensorFlow Datasets; None: its own default.
        train_split, test_split: splits of TensorFlow Datasets, such as
            `"train+extra"`.
        image_size: side in pixels to which the central square of each image
            is resized, for sets of TensorFlow Datasets; None: as they are,
            which needs images of one size.

    Returns:
        `Splits`.

    Raises:
        DataError: if the data are absent and cannot be fetched, or are no
            images with labels.
    """
    if dataset == "digits" or dataset.endswith(".npz"):
        if (train_split, test_split, image_size) != ("train", "test", None):
            raise DataError(
                "`train_split`, `test_split` and `image_size` are for "
                f"TensorFlow Datasets. Received them with dataset={dataset!r}."
            )
        return _digits() if dataset == "digits" else _npz(dataset)
    names = {"train": train_split, "test": test_split}
    return Splits(*tfds.load(dataset, data_dir, names, image_size))


def _digits():
    """1,797 real digits of 8 x 8 pixels, each pixel made 4 x 4.

    The split is fixed and stratified: 1,437 for training, 360 for the test.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DataError(
            "The data set `digits` comes with scikit-learn, which is not "
            "installed. Run: pip install scikit-learn"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) * (255 / 16)  # 17 grey levels
    images = images.round().astype("uint8").repeat(4, 1).repeat(4, 2)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    names = tuple(str(digit) for digit in range(10))
    return Splits(x_train, y_train, x_test, y_test, names)


def _npz(path):
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            missing = [key for key in keys if key not in file]
            if missing:
                raise DataError(
                    f"{path} must hold the arrays {', '.join(keys)}. "
                    f"Missing: {', '.join(missing)}."
                )
            arrays = {key: file[key] for key in keys}
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Cannot read `dataset` {path}: {error}") from error
    for name in ("train", "test"):
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
        x = x[..., None] if x.ndim == 3 else x
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if x.dtype != np.uint8 or x.ndim != 4:
            raise DataError(
                f"{path}: `x_{name}` must be uint8 (images, height, width, "
                f"channels). Received: {x.dtype} {x.shape}."
            )
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise DataError(
                f"{path}: `y_{name}` must hold one whole number for each of "
                f"the {len(x)} images (not one-hot rows). Received: {y.dtype} "
                f"{y.shape}."
            )
        arrays[f"x_{name}"], arrays[f"y_{name}"] = x, y.astype("int64")
    x_train, y_train, x_test, y_test = (arrays[key] for key in keys)
    classes = int(y_train.max(initial=-1)) + 1
    labels = np.concatenate([y_train, y_test, [0]])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{path}: training and test images must have one shape. Received: "
            f"{x_train.shape[1:]} and {x_test.shape[1:]}."
        )
    if labels.min() < 0 or labels.max() >= max(classes, 1):
        raise DataError(
            f"{path}: labels must start from 0, and those of the test occur "
            f"in training. Received: {labels.min()} to {labels.max()}, of "
            f"{classes} classes in training."
        )
    names = tuple(str(i) for i in range(classes))
    return Splits(x_train, y_train, x_test, y_test, names)
