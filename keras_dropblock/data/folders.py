"""Folders of images with one sub-folder for each class.

TFDS's ImageFolder and Keras's image_dataset_from_directory can also read such
folders. However, they do not report which file is broken, and they cannot
split a folder class by class.
"""

import pathlib

import numpy as np

from keras_dropblock.data.dataset import ArrayDataset, divided
from keras_dropblock.data.images import decode, fit_to_size, tensorflow
from keras_dropblock.data.photographs import Photographs
from keras_dropblock.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png")
# Common names of the folder of each split.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}


def load(root, options):
    """Open a folder of JPEG and PNG images of any size.

    The images are in `ROOT/train/CLASS/*.jpg`, with folders `validation` and
    `test` next to `train`; or they are in `ROOT/CLASS/*.jpg`. If the folder
    `test` or `validation` is missing, its images can be taken from the
    training images, class by class: set `test_split` or `validation_split` to
    a fraction. The test images are taken first. A folder `validation` is used
    even if `validation_split` is not set.

    Args:
        root: the folder.
        options: `data.Options`. `image_size` is required unless all images
            have the same size.

    Returns:
        `Dataset`, in memory or, with `streamed`, on disk.

    Raises:
        DataError: if the folder or a split is missing, a class has no image,
            a file cannot be decoded (the message names it), or the images
            differ in size and `image_size` is None.
    """
    root = pathlib.Path(root).expanduser()
    if not root.is_dir():
        raise DataError(
            f"`dataset` must be folder:PATH, where PATH is an existing folder. "
            f"Received: folder:{root}."
        )
    folders = split_folders(root)
    if "train" not in folders:
        raise DataError(
            f"{root} must have a folder train next to the folder "
            f"{', '.join(p.name for p in folders.values())}. It has none."
        )
    class_names = _class_names(folders["train"])
    files = {
        split: _files(folder, class_names) for split, folder in folders.items()
    }
    notes = []
    if options.skip_broken:
        files, notes = _without_broken(files)
    files = with_fractions(root, files, options, _by_class)
    if options.streamed:
        return FolderPhotographs(files, class_names, options, notes)
    arrays = {
        split: (_read(paths, options.frame), labels)
        for split, (paths, labels) in files.items()
    }
    return ArrayDataset(arrays, class_names, notes)


def split_folders(root):
    """Dict from the name of each split that has a folder to that folder.

    If the folder `train` contains no folders, `root` is not split. `train` is
    then a class, such as the trains in a data set of vehicles.
    """
    root = pathlib.Path(root).expanduser()
    found = {
        split: root / name
        for split, names in SPLITS.items()
        for name in names
        if (root / name).is_dir()
    }
    if not found or ("train" in found and not _folders_in(found["train"])):
        return {"train": root}
    return found


def _folders_in(folder):
    """Sorted names of the folders in a folder, without hidden ones."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def _class_names(folder):
    names = _folders_in(folder)
    if len(names) < 2:
        raise DataError(
            f"{folder} must have one sub-folder for each class, and at least "
            f"two classes. Received: {', '.join(names) or 'none'}."
        )
    return tuple(names)


def _files(folder, class_names):
    """(paths, labels) of the images in the sub-folders of all classes."""
    others = {*_folders_in(folder)} - {*class_names}
    if others:
        raise DataError(
            f"{folder} must have the same sub-folders as the training images. "
            f"Not among them: {', '.join(sorted(others))}."
        )
    paths, labels = [], []
    for label, name in enumerate(class_names):
        images = sorted(
            path
            for path in (folder / name).glob("*")
            if path.suffix.lower() in SUFFIXES
        )
        if not images:
            raise DataError(
                f"{folder / name} must contain images "
                f"({', '.join(SUFFIXES)}). It has none."
            )
        paths += images
        labels += [label] * len(images)
    return paths, np.array(labels, "int64")


def with_fractions(root, splits, options, divide):
    """Take splits without a folder from the training examples.

    Args:
        root: folder of the data set, for error messages.
        splits: dict from the name of each split with a folder to its examples.
        options: `data.Options`.
        divide: function from (examples, fraction, key of the recipe) to the
            two parts of the examples.

    Returns:
        `splits` with the further splits.

    Raises:
        DataError: if an option does not fit the folders.
    """
    splits = dict(splits)
    for split, key in (
        ("test", "test_split"),
        ("validation", "validation_split"),
    ):
        fraction = getattr(options, key)
        if split in splits:
            if isinstance(fraction, float):
                raise DataError(
                    f"`{key}` must not be a fraction, because {root} has a "
                    f"folder for this split. Received: {key}={fraction}."
                )
        elif isinstance(fraction, float):
            splits[split], splits["train"] = divide(
                splits["train"], fraction, key
            )
        elif split == "test":
            raise DataError(
                f"{root} has no folder test. Set test_split to the fraction "
                "of the training images to use as test images, such as 0.2."
            )
        elif fraction not in (None, split):
            raise DataError(
                f"`{key}` must be a fraction, because {root} has no folder "
                f"validation. Received: {key}={fraction!r}."
            )
    return splits


def _by_class(files, fraction, key):
    """Divide (paths, labels) into two parts, class by class."""
    paths, labels = files
    part, rest = divided(labels, fraction, key)
    return (
        ([paths[i] for i in part], labels[part]),
        ([paths[i] for i in rest], labels[rest]),
    )


def _decoded(path):
    """Decode a file to a uint8 image, or raise a DataError that names it."""
    tf = tensorflow()
    try:
        return decode(path.read_bytes())
    except (tf.errors.InvalidArgumentError, OSError) as error:
        raise DataError(
            f"{path} cannot be decoded: {str(error).splitlines()[0]} Remove "
            "the file, or set skip_broken = true."
        ) from error


def _without_broken(files):
    """Skip files that cannot be decoded.

    Returns:
        (the remaining files, notes about the skipped files).
    """
    kept, broken = {}, []
    for split, (paths, labels) in files.items():
        good = []
        for i, path in enumerate(paths):
            try:
                _decoded(path)
                good.append(i)
            except DataError:
                broken.append(path)
        kept[split] = [paths[i] for i in good], labels[good]
        lost = sorted({*labels.tolist()} - {*labels[good].tolist()})
        if lost:
            folder = paths[int(np.flatnonzero(labels == lost[0])[0])].parent
            raise DataError(
                f"No file in {folder} can be decoded. The first is {broken[0]}."
            )
    if not broken:
        return kept, []
    return kept, [
        f"Skipped {len(broken)} files that cannot be decoded. The first is "
        f"{broken[0]}."
    ]


def _read(paths, image_size):
    """Decode and resize images into one uint8 array."""
    images = []
    for path in paths:
        image = _decoded(path)
        if image_size is not None:
            image = fit_to_size(image, image_size)
        image = np.asarray(image)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"The images differ in size: {path} is {image.shape[:2]}, "
                f"{paths[0]} is {images[0].shape[:2]}. Set image_size: the "
                "central square of each image is then resized to that side "
                "in pixels."
            )
        images.append(image)
    return np.stack(images)


class FolderPhotographs(Photographs):
    """Photographs in a folder, read from disk when they are needed."""

    def __init__(self, files, class_names, options, notes):
        super().__init__(options.frame, options.crop_fraction)
        self.files = files
        self.splits = tuple(files)
        self.class_names = class_names
        self.notes = tuple(notes)

    def size(self, split):
        return len(self.files[split][0])

    def labels(self, split):
        return self.files[split][1]

    def check_files(self, split):
        for path in self.files[split][0]:
            _decoded(path)

    def encoded(self, split, seed):
        tf = tensorflow()
        paths, labels = self.files[split]
        paths = np.array([str(path) for path in paths])
        if seed is not None:
            order = np.random.default_rng(seed).permutation(len(paths))
            paths, labels = paths[order], labels[order]
        dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
        return dataset.map(
            lambda path, label: (tf.io.read_file(path), label),
            tf.data.AUTOTUNE,
        )
