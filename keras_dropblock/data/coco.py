"""Folders in the layout of COCO: `train2017/`, `val2017/`, `annotations/`."""

import concurrent.futures
import json
import pathlib
import re

import numpy as np

from keras_dropblock.data.annotated import (
    AnnotatedDataset,
    BoxRows,
    Objects,
    Rows,
    check_objects,
    cleaned,
    repair_notes,
    threads,
)
from keras_dropblock.data.image_files import decoded, image_row
from keras_dropblock.errors import DataError

COCO = "coco:"
_SPLITS = {"train": "train2017", "test": "val2017"}
_SLIP = (
    "The objects of COCO's own test images are not public. Did you mean the "
    "annotations of the validation images?"
)


def load(root, options):
    """Open a folder with the images and boxes of COCO, or in its layout.

    The test images are those of `val2017`, because the labels of COCO's own
    test images are not public. Boxes are clipped to their image, and boxes
    without area are left out; both are counted in the notes.

    Args:
        root: the folder.
        options: `data.Options`. `image_size` is required. `train_split`
            may be a part of the listed training images, such as
            `"train[:32]"`; the others need not be there. With `skip_broken`,
            images that are absent or cannot be decoded are left out and
            counted. All files are then decoded once before the training.

    Returns:
        `AnnotatedDataset` with boxes.

    Raises:
        DataError: if a file is missing or is not what COCO describes, or a
            split has no objects. The message names the file and the
            annotation.
    """
    root = pathlib.Path(root).expanduser()
    if options.frame is None:
        raise DataError(
            "`image_size` must be given for images with boxes: the size that "
            "they are scaled into, such as 640. Received: image_size=None."
        )
    arrays, notes, names = {}, [], None
    for split, name in _SPLITS.items():
        path = root / "annotations" / f"instances_{name}.json"
        part = _part(options.train_split) if split == "train" else slice(None)
        split_names, listed = _listed(path, root / name)
        if names not in (None, split_names):
            raise DataError(
                f"{path} must have the same categories as the training images."
            )
        names = split_names
        examples, found = _examples(path, listed[part], options.skip_broken)
        notes += [f"{name}: {note}" for note in found]
        arrays[split] = _rows(examples, options)
        _, labels = arrays[split]
        if split == "train":
            check_objects(labels, "train_split", path)
        else:
            check_objects(labels, "dataset", path, _SLIP)
    return AnnotatedDataset(arrays, names, notes)


def _part(train_split):
    """The slice of the training images in a split such as `"train[:32]"`."""
    match = re.fullmatch(r"train(?:\[(\d*):(\d*)\])?", train_split)
    if not match:
        raise DataError(
            "`train_split` must read like train or train[:32] for this data "
            f"set. Received: train_split={train_split!r}."
        )
    return slice(*(int(text) if text else None for text in match.groups()))


def _rows(examples, options):
    frame = options.frame
    images = [
        image_row(path.read_bytes, path, options, objects.size)
        for path, objects in examples
    ]
    boxes = BoxRows([objects for _, objects in examples], frame)
    return Rows(images, (*frame, 3)), boxes


def _listed(path, folder):
    """(class names, [(image file, `Objects`, counts of repairs), ...])."""
    content = _content(path)
    try:
        categories = sorted(content["categories"], key=lambda c: c["id"])
        by_image = {image["id"]: [] for image in content["images"]}
        classes = {c["id"]: i for i, c in enumerate(categories)}
        for annotation in content["annotations"]:
            _check(annotation, by_image, classes, path)
            by_image[annotation["image_id"]].append(annotation)
        names = tuple(str(c["name"]) for c in categories)
        return names, [
            (
                folder / image["file_name"],
                *_objects(image, by_image[image["id"]], classes),
            )
            for image in content["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} must have images, annotations and categories with the "
            f"keys that COCO describes. Missing or of a wrong type: {error}."
        ) from error


def _examples(path, listed, skip_broken):
    """([(image file, `Objects`), ...], notes) of the listed images in use."""
    files = [file for file, *_ in listed]
    present = {file for file in files if file.is_file()}
    absent = [file for file in files if file not in present]
    if absent and not skip_broken:
        raise DataError(
            f"{path} lists {len(absent)} of {len(listed)} images that are "
            f"absent. The first is {absent[0]}. Set skip_broken = true to "
            "leave them out."
        )
    broken = _broken(sorted(present)) if skip_broken else []
    left_out = {*absent, *broken}
    used = [example for example in listed if example[0] not in left_out]
    if not used:
        raise DataError(
            f"{path} must list at least one image that can be used. Of the "
            f"{len(listed)} images in this split, {len(absent)} are absent "
            f"and {len(broken)} cannot be decoded."
        )
    notes = [
        f"Left out {len(out)} {what} images. The first is {out[0]}."
        for out, what in ((absent, "absent"), (broken, "undecodable"))
        if out
    ]
    counts = np.sum([repairs for *_, repairs in used], axis=0)
    notes += repair_notes(*counts, len(used))
    return [(file, objects) for file, objects, _ in used], notes


def _broken(files):
    """The files that cannot be decoded. Reads all of them."""

    def is_broken(file):
        try:
            decoded(file.read_bytes, file)
        except DataError:
            return True
        return False

    with concurrent.futures.ThreadPoolExecutor(threads()) as pool:
        wrong = list(pool.map(is_broken, files))
    return [file for file, bad in zip(files, wrong, strict=True) if bad]


def _content(path):
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"`dataset` must be {COCO}PATH, where PATH has the folders "
            "train2017, val2017 and annotations, as COCO's archives unpack. "
            f"{path} cannot be read: {error}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object, as COCO's files do.")
    return content


def _check(annotation, by_image, classes, path):
    """Raise DataError if the category, image or box does not exist."""
    name = f"{path}: annotation {annotation['id']}"
    if annotation["category_id"] not in classes:
        raise DataError(
            f"{name} has the unknown category {annotation['category_id']}. "
            f"There are {len(classes)} categories."
        )
    if annotation["image_id"] not in by_image:
        raise DataError(
            f"{name} belongs to the image {annotation['image_id']}, which the "
            "file does not list."
        )
    box = annotation["bbox"]
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(x) in (int, float) and np.isfinite(x) for x in box)
    ):
        raise DataError(
            f"{name} must have a bbox of 4 finite numbers, x, y, width and "
            f"height. Received: {box!r:.100}."
        )


def _objects(image, annotations, classes):
    """`Objects` of an image, and three counts for `repair_notes`."""
    size = (int(image["height"]), int(image["width"]))
    boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    x, y, width, height = boxes.T
    corners = np.stack([y, x, y + height, x + width], axis=1)
    corners, kept, clipped = cleaned(corners, size)
    area = [a.get("area", a["bbox"][2] * a["bbox"][3]) for a in annotations]
    objects = Objects(
        size,
        corners[kept],
        np.array([classes[a["category_id"]] for a in annotations], int)[kept],
        np.array([a.get("iscrowd", 0) for a in annotations], bool)[kept],
        np.array(area, float)[kept],
    )
    return objects, (clipped, int((~kept).sum()), int(not kept.any()))
