"""Small data sets as arrays: the digits of scikit-learn, and .npz files."""

import zipfile

import numpy as np

from keras_dropblock.data.dataset import ArrayDataset
from keras_dropblock.errors import DataError

# Errors of `np.load`. It raises TypeError in `with` for a single array.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


def npz_has_validation(path):
    """Whether a .npz file has a validation split."""
    try:
        with np.load(path) as file:
            return "x_validation" in file
    except _UNREADABLE:
        return False  # `load_npz` explains what is wrong with the file


def load_digits():
    """1,797 real digits of 8 x 8 pixels, enlarged to 32 x 32.

    The split is fixed and stratified: 1,437 training and 360 test images.
    """
    try:
        from sklearn import datasets
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DataError(
            "The data set `digits` comes with scikit-learn, which is not "
            "installed. Run: pip install scikit-learn"
        ) from error
    images, labels = datasets.load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) * (255 / 16)  # 17 gray levels
    images = images.round().astype("uint8").repeat(4, 1).repeat(4, 2)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    return ArrayDataset(
        {"train": (x_train, y_train), "test": (x_test, y_test)},
        tuple(str(digit) for digit in range(10)),
    )


def load_npz(path):
    """Read a .npz file, with the arrays that `sources.load` describes.

    Raises:
        DataError: if the file cannot be read or its arrays do not fit.
    """
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            missing = [key for key in keys if key not in file]
            if missing:
                raise DataError(
                    f"{path} must hold the arrays {', '.join(keys)}. "
                    f"Missing: {', '.join(missing)}."
                )
            splits = ["train", "test"]
            if "x_validation" in file or "y_validation" in file:
                splits.append("validation")
            arrays = {
                f"{k}_{s}": file[f"{k}_{s}"] for s in splits for k in "xy"
            }
    except _UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Cannot read `dataset` {path}: {error}") from error
    read = {}
    for name in splits:
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
        x = x[..., None] if x.ndim == 3 else x
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if x.dtype != np.uint8 or x.ndim != 4:
            raise DataError(
                f"{path}: `x_{name}` must be uint8 (images, height, width, "
                f"channels). Received: {x.dtype} {x.shape}."
            )
        if y.shape[:1] != x.shape[:1]:
            raise DataError(
                f"{path}: `y_{name}` must hold one label for each of the "
                f"{len(x)} images. Received: {y.dtype} {y.shape}."
            )
        read[name] = (x, y.astype("int64") if y.dtype.kind in "iu" else y)
    shapes = {name: x.shape[1:] for name, (x, _) in read.items()}
    if len({*shapes.values()}) > 1:
        raise DataError(
            f"{path}: the images of all splits must have the same shape. "
            f"Received: {shapes}."
        )
    return ArrayDataset(read)
