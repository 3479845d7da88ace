"""Sources of images: digits, .npz files, folders, TensorFlow Datasets."""

import dataclasses
import pathlib

from keras_dropblock.data import (
    arrays,
    coco,
    folders,
    mask_folders,
    shapes,
    tfds,
    tfds_boxes,
)
from keras_dropblock.data.options import Options
from keras_dropblock.data.photographs import TFDSPhotographs
from keras_dropblock.errors import DataError

FOLDER = "folder:"


def load(source, options=None, **changes):
    """Open a data set.

    Args:
        source: one of

            - `"digits"`: the handwritten digits of scikit-learn,
            - a path that ends in `.npz`, with the arrays `x_train`,
              `y_train`, `x_test`, `y_test` and, for a validation split,
              `x_validation`, `y_validation`,
            - `"folder:PATH"`: a folder of images (see `folders.load`),
            - `"masks:PATH"`: folders of images and masks (see
              `mask_folders.load`),
            - `"coco:PATH"`: boxes in the layout of COCO (see `coco.load`),
            - `"shapes"`: generated images with boxes and masks (see
              `shapes.load`),
            - the name of an image classification or detection set of
              TensorFlow Datasets, such as `"cifar10"` or `"voc/2007"`.

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
        dataset = (
            arrays.load_digits()
            if source == "digits"
            else arrays.load_npz(source)
        )
        return _with_validation(dataset, options.validation_split)
    return _tfds(source, options)


def divided(source):
    """Divide the name of a data set where its path begins.

    Returns:
        (start, path): `("masks:", "/data/CamVid")`, `("", "/data/x.npz")` or,
        for a data set without a path, `("cifar10", "")`.
    """
    prefix = _prefix(source)
    if prefix.endswith(":") and prefix in _LABELS:
        return prefix, source.removeprefix(prefix)
    return ("", source) if source.endswith(".npz") else (source, "")


def has_own_validation(source):
    """Whether a folder of images or a .npz file has a validation split."""
    if source.startswith(mask_folders.MASKS):
        return mask_folders.has_validation(
            source.removeprefix(mask_folders.MASKS)
        )
    if source.startswith(FOLDER):
        root = pathlib.Path(source.removeprefix(FOLDER))
        return "validation" in folders.split_folders(root)
    return source.endswith(".npz") and arrays.npz_has_validation(source)


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
    """The prefix that identifies a source, such as `"coco:"`."""
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


# The labels that each source has.
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
            f"images (dataset = '{FOLDER}PATH' or '{coco.COCO}PATH'). "
            f"Received: dataset={source!r}."
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
        names["validation"] = split
    if options.labels == "boxes":
        _refuse_skipping(source, options)
        dataset = tfds_boxes.load(source, options.data_dir, names, options)
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
