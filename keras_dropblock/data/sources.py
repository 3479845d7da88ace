"""Where images come from: built-in digits, TensorFlow Datasets, .npz files."""

import dataclasses
import queue
import threading
import urllib.error
import urllib.request

import numpy as np


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


class DataError(ValueError):
    """Data that are not there or not what was asked for; says what to do."""


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
    return _tfds(dataset, data_dir, train_split, test_split, image_size)


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
        with np.load(path) as file:
            missing = [key for key in keys if key not in file]
            if missing:
                raise DataError(
                    f"{path} must hold the arrays {', '.join(keys)}. "
                    f"Missing: {', '.join(missing)}."
                )
            x_train, y_train, x_test, y_test = (file[key] for key in keys)
    except OSError as error:
        raise DataError(f"Cannot read `dataset` {path}: {error}") from error
    x_train, x_test = (
        x[..., None] if x.ndim == 3 else x for x in (x_train, x_test)
    )
    y_train, y_test = (
        y.astype("int64").reshape(len(y)) for y in (y_train, y_test)
    )
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.dtype != np.uint8 or x.ndim != 4 or len(x) != len(y):
            raise DataError(
                f"{path}: `x_{name}` must be uint8 (images, height, width, "
                f"channels) with one label each in `y_{name}`. Received: "
                f"{x.dtype} {x.shape} with {y.shape}."
            )
    if x_train.shape[1:] != x_test.shape[1:] or y_train.min() < 0:
        raise DataError(
            f"{path}: training and test images must have one shape and labels "
            f"must start from 0. Received: shapes {x_train.shape[1:]} and "
            f"{x_test.shape[1:]}, labels from {y_train.min()}."
        )
    names = tuple(str(i) for i in range(int(y_train.max()) + 1))
    return Splits(x_train, y_train, x_test, y_test, names)


def _tfds(name, data_dir, train_split, test_split, image_size):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"`dataset` {name!r} comes from TensorFlow Datasets, which is not "
            "installed. Run: pip install 'keras-dropblock[tensorflow]', or "
            "use digits or a .npz file."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        first_line = str(error).splitlines()[0]
        raise DataError(
            f"`dataset` must be digits, a .npz file or a name that TensorFlow "
            f"Datasets knows. Received: dataset={name!r} ({first_line})"
        ) from error
    if not _is_prepared(builder):
        _download(builder, name)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise DataError(
            f"`dataset` {name!r} is no image classification set: it has "
            f"{', '.join(features)} in place of image and label."
        )
    for key, split in (
        ("train_split", train_split),
        ("test_split", test_split),
    ):
        unknown = [
            part
            for part in split.split("+")
            if part.split("[")[0] not in builder.info.splits
        ]
        if unknown:
            raise DataError(
                f"`{key}` must be made of {', '.join(builder.info.splits)}. "
                f"Received: {key}={split!r}."
            )
    if image_size is None and None in features["image"].shape:
        raise DataError(
            f"The images of {name!r} differ in size. Set image_size, the side "
            "in pixels to which their central squares are resized."
        )
    x_train, y_train = _read(builder, train_split, image_size)
    x_test, y_test = _read(builder, test_split, image_size)
    names = tuple(features["label"].names)
    return Splits(x_train, y_train, x_test, y_test, names)


def _is_prepared(builder):
    try:
        return bool(builder.info.splits) and builder.data_path.exists()
    except (AssertionError, FileNotFoundError):
        return False


def _read(builder, split, image_size):
    import tensorflow as tf

    dataset = builder.as_dataset(split=split)

    def image_and_label(example):
        image = example["image"]
        if image_size is not None:
            image = _central_square(image, image_size)
        return image, example["label"]

    dataset = dataset.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    parts = list(dataset.batch(1024).as_numpy_iterator())
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels.astype("int64")


def _central_square(image, size):
    import tensorflow as tf

    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    image = image[top : top + side, left : left + side]
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _download(builder, name):
    """Fetch the data, but only once its servers have answered.

    TensorFlow Datasets alone retries for minutes where there is no network.
    """
    urls = sorted(builder.url_infos)
    if urls and not any(_answers(urls)):
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"none of its servers answered: {', '.join(urls[:3])}. Prepare it "
            "there on a machine with a network (tfds build), or set data_dir "
            "to the folder that holds it, or use digits or a .npz file."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # many kinds, by data set and by TFDS version
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"its download failed: {error}"
        ) from error


def _answers(urls, seconds=5):
    """Which of the first URLs answer within some seconds, asked at once."""
    answers = queue.SimpleQueue()

    def ask(url):
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
            answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)  # an answer all the same
        except (OSError, ValueError):
            answers.put(False)

    asked = urls[:3]
    for url in asked:
        # Daemons: a name server that hangs does not hold the program.
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    results = []
    for _ in asked:
        try:
            results.append(answers.get(timeout=seconds))
        except queue.Empty:
            break
    return results
