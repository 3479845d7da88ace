"""Pairs of folders of images and masks, in the layout of CamVid.

`ROOT/train/NAME.png` has its mask in `ROOT/trainannot/NAME.png`, a file with
one channel of class indices. The folders `val` and `test` have the same form.
`ROOT/classes.txt` has the name of one class on each line, from class 0.
"""

import functools
import pathlib

from keras_dropblock.data.annotated import (
    AnnotatedDataset,
    Rows,
)
from keras_dropblock.data.dataset import divided
from keras_dropblock.data.folders import SPLITS, SUFFIXES, with_fractions
from keras_dropblock.data.image_files import file_size, image_row, mask_row
from keras_dropblock.errors import DataError

MASKS = "masks:"
CLASSES = "classes.txt"


def load(root, options):
    """Open pairs of folders of images and masks.

    Args:
        root: the folder.
        options: `data.Options`. `image_size` is required. A fraction as
            `test_split` or `validation_split` takes the images of a missing
            folder from the training images.

    Returns:
        `AnnotatedDataset` with masks.

    Raises:
        DataError: if a folder, a mask or `classes.txt` is missing. A file that
            cannot be used raises it when it is read.
    """
    root = pathlib.Path(root).expanduser()
    names = _class_names(root)
    folders = _folders(root)
    if "train" not in folders:
        raise DataError(
            f"{root} must have the folders train and trainannot. It has no "
            "train."
        )
    if options.frame is None:
        raise DataError(
            "`image_size` must be given for images with masks: the size that "
            "they are scaled into, such as [180, 240]. Received: "
            "image_size=None."
        )
    pairs = {split: _pairs(folder) for split, folder in folders.items()}
    pairs = with_fractions(root, pairs, options, _at_random)
    arrays = {
        split: _rows(found, options, len(names))
        for split, found in pairs.items()
    }
    return AnnotatedDataset(arrays, names)


def has_validation(root):
    """Whether the folder of a source has validation images."""
    return "validation" in _folders(pathlib.Path(root).expanduser())


def _folders(root):
    """Dict from the name of each split that has a folder to that folder."""
    return {
        split: root / name
        for split, candidates in SPLITS.items()
        for name in candidates
        if (root / name).is_dir()
    }


def _class_names(root):
    path = root / CLASSES
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"`dataset` must be {MASKS}PATH, where PATH has the file {CLASSES} "
            f"with one class name on each line. Received: {MASKS}{root} "
            f"({error})"
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < 2 or len(names) > 255 or len({*names}) < len(names):
        raise DataError(
            f"{path} must have 2 to 255 different class names, one on each "
            f"line. Received: {len(names)} names."
        )
    return names


def _pairs(folder):
    """[(image, mask), ...] of a folder and its neighbor `FOLDERannot`."""
    masks = folder.with_name(f"{folder.name}annot")
    images = sorted(
        path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES
    )
    if not images:
        raise DataError(
            f"{folder} must contain images ({', '.join(SUFFIXES)}). It has "
            "none."
        )
    pairs = [(path, masks / f"{path.stem}.png") for path in images]
    missing = [mask for _, mask in pairs if not mask.is_file()]
    if missing:
        raise DataError(
            f"Each image of {folder} must have a mask of its name in {masks}. "
            f"Missing: {len(missing)}, the first is {missing[0]}."
        )
    return pairs


def _at_random(pairs, fraction, key):
    """Divide pairs into two parts at random: an image has no class."""
    part, rest = divided([[0]] * len(pairs), fraction, key)
    return [pairs[i] for i in part], [pairs[i] for i in rest]


def _rows(pairs, options, classes):
    frame = options.frame
    images = [image_row(image.read_bytes, image, options) for image, _ in pairs]
    masks = [
        mask_row(
            mask.read_bytes,
            mask,
            frame,
            classes,
            options.ignored_labels,
            functools.partial(_size, image),
        )
        for image, mask in pairs
    ]
    return Rows(images, (*frame, 3)), Rows(masks, frame)


def _size(path):
    return file_size(path.read_bytes(), path)
