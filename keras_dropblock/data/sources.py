"""Sources of images: digits, .npz files, folders, TensorFlow Datasets."""

import dataclasses
import pathlib
import zipfile

import numpy as np

from keras_dropblock.data import (
    coco,
    folders,
    mask_folders,
    shapes,
    tfds,
    tfds_boxes,
)
from keras_dropblock.data.dataset import ArrayDataset
from keras_dropblock.data.photographs import TFDSPhotographs
from keras_dropblock.errors import DataError

FOLDER = "folder:"
# Errors of `np.load`. It raises TypeError in `with` for a single array.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options for reading a data set. Each source uses some of them.

    Args:
        data_dir: folder of TensorFlow Datasets; None: its default.
        train_split, test_split: names or slices of TensorFlow Datasets, such
            as `"train+extra"`. For a folder of images without a test folder,
            `test_split` is a fraction of the training images.
        validation_split: fraction of the training images to hold out, or a
            slice of TensorFlow Datasets; None: no validation split.
        image_size: side in pixels to which the central square of each image
            is resized, or (height, width), to which its largest central part
            of that shape is; None: images are not resized and must all have
            the same size. With boxes or masks, whole images are scaled into
            this size.
        skip_broken: whether to skip and count files of a folder that cannot
            be decoded, instead of raising an error.
        streamed: whether images stay on disk until they are needed.
        crop_fraction: for streamed test images, side of the central crop as a
            fraction of the shorter side.
        labels: what is wanted for each image: `"classes"`, `"boxes"` or
            `"masks"`.
        ignored_labels: labels of masks that mean "not labeled", besides 255.
    """

    data_dir: str | None = None
    train_split: str = "train"
    test_split: str | float = "test"
    validation_split: str | float | None = None
    image_size: int | tuple[int, int] | None = None
    skip_broken: bool = False
    streamed: bool = False
    crop_fraction: float = 1.0
    labels: str = "classes"
    ignored_labels: tuple[int, ...] = ()

    @property
    def frame(self):
        """`image_size` as (height, width), or None."""
        if isinstance(self.image_size, int):
            return (self.image_size, self.image_size)
        return self.image_size


def load(source, options=None, **changes):
    """Open a data set.

    Args:
        source: `"digits"` for the handwritten digits that scikit-learn
            ships, a path that ends in `.npz` (arrays `x_train`, `y_train`,
            `x_test`, `y_test` and, for a validation split, `x_validation`,
            `y_validation`), `"folder:PATH"` for a folder of images (see
            `folders.load`), `"masks:PATH"` for folders of images
            and masks (see `mask_folders.load`), `"coco:PATH"` for boxes in
            COCO's layout (see `coco.load`), `"shapes"` for generated images
            with boxes and masks (see `shapes.load`), or the name of any image
            classification or detection set of TensorFlow Datasets, such as
            `"cifar10"` or `"voc/2007"`.
        options: `Options`, or None for the defaults.
        **changes: single options that replace those of `options`.

    Returns:
        `Dataset`.

    Raises:
        DataError: if the data are missing and cannot be downloaded, are not
            images with labels, or an option does not apply to this source.
    """
    options = dataclasses.replace(options or Options(), **changes)
    _check_labels(source, options.labels)
    if options.labels != "classes":
        return _annotated(source, options)
    if source.startswith(FOLDER):
        _refuse(source, options, "data_dir", "train_split")
        return folders.load(source.removeprefix(FOLDER), options)
    _refuse_skipping(source, options)
    if source == "digits" or source.endswith(".npz"):
        if options.streamed:
            raise DataError(
                "`augmentation` must not be resized_crop_flip for this data "
                "set: it reads photographs from a folder or from TensorFlow "
                f"Datasets. Received: dataset={source!r}."
            )
        _refuse(
            source,
            options,
            "data_dir",
            "train_split",
            "test_split",
            "image_size",
        )
        dataset = _digits() if source == "digits" else _npz(source)
        return _with_validation(dataset, options.validation_split)
    return _tfds(source, options)


def has_own_validation(source):
    """Whether a folder of images or a .npz file has a validation split."""
    if source.startswith(mask_folders.MASKS):
        return mask_folders.has_validation(
            source.removeprefix(mask_folders.MASKS)
        )
    if source.startswith(FOLDER):
        root = pathlib.Path(source.removeprefix(FOLDER))
        return "validation" in folders.split_folders(root)
    if not source.endswith(".npz"):
        return False
    try:
        with np.load(source) as file:
            return "x_validation" in file
    except _UNREADABLE:
        return False  # `load` explains what is wrong with the file


def _annotated(source, options):
    """Open a data set with boxes or masks."""
    prefix = _prefix(source)
    path = source.removeprefix(prefix)
    if prefix == mask_folders.MASKS:
        _refuse(source, options, "data_dir", "train_split", "skip_broken")
        return mask_folders.load(path, options)
    if prefix not in _LABELS:
        return _tfds(source, options)
    _refuse(source, options, "data_dir", "test_split")
    if prefix == coco.COCO:
        dataset = coco.load(path, options)
    else:
        _refuse(source, options, "train_split", "skip_broken")
        dataset = shapes.load(options)
    return _with_validation(dataset, options.validation_split)


def _prefix(source):
    """What a source starts with, by which it is told: `"coco:"`, ..."""
    return source if source == shapes.NAME else f"{source.partition(':')[0]}:"


def _check_labels(source, wanted):
    """Raise DataError if a source does not have what a task needs."""
    if source in ("digits",) or source.endswith(".npz"):
        had = ("classes",)
    else:
        had = _LABELS.get(_prefix(source), ("classes", "boxes"))
    if wanted not in had:
        raise DataError(
            f"`dataset` must be a data set with {wanted} for this task: "
            f"{_SOURCES[wanted]}. Received: dataset={source!r}."
        )


# What these sources have for each image.
_LABELS = {
    FOLDER: ("classes",),
    mask_folders.MASKS: ("masks",),
    coco.COCO: ("boxes",),
    shapes.NAME: ("boxes", "masks"),
}
_SOURCES = {
    "classes": "digits, a .npz file, folder:PATH or a name in TensorFlow "
    "Datasets",
    "boxes": "coco:PATH, shapes or a name in TensorFlow Datasets, such as "
    "voc/2007",
    "masks": "masks:PATH or shapes",
}


def _refuse_skipping(source, options):
    if options.skip_broken:
        raise DataError(
            "`skip_broken` must be false, unless the data set is a folder of "
            f"images (dataset = '{FOLDER}PATH'). Received: dataset={source!r}."
        )


def can_resize(source):
    """Whether the option `image_size` applies to a source."""
    return source != "digits" and not source.endswith(".npz")


def _refuse(source, options, *names):
    """Raise DataError if one of the named options is set."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in names and value != field.default:
            raise DataError(
                f"`{field.name}` does not apply to dataset={source!r}, only "
                "to data sets of TensorFlow Datasets. Received: "
                f"{field.name}={value!r}."
            )


def _with_validation(dataset, split):
    if isinstance(split, str):
        raise DataError(
            "`validation_split` must be a fraction of the training images. "
            "Only TensorFlow Datasets has slices. Received: "
            f"validation_split={split!r}."
        )
    if split is not None and "validation" in dataset.splits:
        raise DataError(
            "`validation_split` must not be given: the file already has "
            f"`x_validation`. Received: validation_split={split}."
        )
    return dataset if split is None else dataset.hold_out(split)


def _check_held_out(validation_split, train_split):
    """Raise DataError if a split is used whole for both."""
    whole = {part.strip() for part in train_split.split("+")}
    for part in validation_split.split("+"):
        name = part.strip().partition("[")[0]
        if name in whole:
            raise DataError(
                "`validation_split` must not overlap `train_split`. Received: "
                f"train_split={train_split!r}, validation_split="
                f"{validation_split!r}. Did you mean train_split = "
                f"'{name}[:90%]' and validation_split = '{name}[90%:]'?"
            )


def _tfds(source, options):
    split = options.validation_split
    if isinstance(options.test_split, float):
        raise DataError(
            "`test_split` must name a split of TensorFlow Datasets. Only for "
            "a folder of images may it be a fraction. Received: "
            f"test_split={options.test_split}."
        )
    names = {"train": options.train_split, "test": options.test_split}
    if isinstance(split, str):
        _check_held_out(split, options.train_split)
        names["validation"] = split
    if options.labels == "boxes":
        _refuse_skipping(source, options)
        dataset = tfds_boxes.load(
            source, options.data_dir, names, options.frame
        )
        return dataset.hold_out(split) if isinstance(split, float) else dataset
    if not options.streamed:
        dataset = tfds.load(source, options.data_dir, names, options.frame)
        return dataset.hold_out(split) if isinstance(split, float) else dataset
    if isinstance(split, float):
        raise DataError(
            "`validation_split` must be a slice if images are read from disk: "
            "set train_split = 'train[:90%]' and validation_split = "
            f"'train[90%:]'. Received: validation_split={split}."
        )
    builder = tfds.open_builder(source, options.data_dir, names)
    return TFDSPhotographs(builder, names, options.frame, options.crop_fraction)


def _digits():
    """1,797 real digits of 8 x 8 pixels, enlarged to 32 x 32.

    The split is fixed and stratified: 1,437 training and 360 test images.
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
    images = images.reshape(-1, 8, 8, 1) * (255 / 16)  # 17 gray levels
    images = images.round().astype("uint8").repeat(4, 1).repeat(4, 2)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    return ArrayDataset(
        {"train": (x_train, y_train), "test": (x_test, y_test)},
        tuple(str(digit) for digit in range(10)),
    )


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
