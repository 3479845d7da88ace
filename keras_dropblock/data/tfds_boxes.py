"""Detection data sets of TensorFlow Datasets, such as COCO and VOC.

They have the features `image` and `objects`. Each object has `bbox` and
`label`.
"""

import functools

import numpy as np

from keras_dropblock.data import tfds
from keras_dropblock.data.annotated import (
    AnnotatedDataset,
    BoxRows,
    Objects,
    Rows,
    check_objects,
    cleaned,
    repair_notes,
)
from keras_dropblock.data.image_files import decoded, file_size, image_row
from keras_dropblock.errors import DataError

FEATURES = ("image", "objects")
# Of Penn-Fudan: n on the n-th object, 0 elsewhere.
MASK = "segmentation_mask"
_FORMAT = "REL_YXYX"  # TFDS's default
_SLIP = (
    "The objects of some test images are not public, such as those of COCO "
    "and of VOC 2012. Did you mean test_split = 'validation'?"
)


def load(name, data_dir, names, options):
    """Read a detection data set. Its image files stay in memory, encoded.

    For COCO 2017 this takes 19 GB; `coco:PATH` reads the files from disk.

    Args:
        name, data_dir, names: see `tfds.open_builder`.
        options: `sources.Options`. `image_size` is required.

    Returns:
        `AnnotatedDataset` with boxes.

    Raises:
        DataError: if the boxes do not have TFDS's usual format, or if a split
            has no objects. TFDS does not have those of the test images of
            COCO and of VOC 2012.
    """
    builder = tfds.open_builder(name, data_dir, names, FEATURES)
    if options.frame is None:
        raise DataError(
            "`image_size` must be given for images with boxes: the size that "
            "they are scaled into, such as 640. Received: image_size=None."
        )
    _check_format(name, builder.info.features["objects"]["bbox"])
    arrays, notes = dict.fromkeys(names), []
    # The training images come last: they take minutes, and an error is more
    # likely in the others.
    for split, part in reversed(names.items()):
        arrays[split], found = _rows(builder, name, part, options)
        _, labels = arrays[split]
        slip = _SLIP if split == "test" else None
        check_objects(labels, f"{split}_split", f"{name} {part}", slip)
        notes = [*(f"{part}: {note}" for note in found), *notes]
    label = builder.info.features["objects"]["label"]
    return AnnotatedDataset(arrays, tuple(label.names), notes)


def _check_format(name, feature):
    """Raise DataError for boxes in another format than TFDS's usual one."""
    given = getattr(feature, "bbox_format", None)
    if given is not None and given.name != _FORMAT:
        raise DataError(
            f"`dataset` must have boxes of the format {_FORMAT}: y and x of "
            "the corners, as fractions of the sides of the image. Received: "
            f"{given.name} in {name}. Did you build the set yourself? Use "
            "tfds.features.BBox there."
        )


def _rows(builder, name, part, options):
    import tensorflow_datasets

    skip = tensorflow_datasets.decode.SkipDecoding()
    encoded = [x for x in ("image", MASK) if x in builder.info.features]
    dataset = builder.as_dataset(
        split=part, decoders=dict.fromkeys(encoded, skip)
    )
    images, objects, counts = [], [], np.zeros(3, int)
    for i, example in enumerate(dataset.as_numpy_iterator()):
        of_image, repairs = _objects(example, f"{name} {part}, image {i}")
        images.append(
            image_row(
                functools.partial(bytes, example["image"]),
                f"{name} {part}, image {i}",
                options,
                of_image.size,
            )
        )
        objects.append(of_image)
        counts += repairs
    notes = repair_notes(*counts, len(objects))
    frame = options.frame
    return (Rows(images, (*frame, 3)), BoxRows(objects, frame)), notes


def _objects(example, name):
    """`Objects` of an example, and three counts for `repair_notes`."""
    found = example["objects"]
    height, width = file_size(example["image"], name)
    scale = np.float32([height, width, height, width])
    boxes, kept, clipped = cleaned(found["bbox"] * scale, (height, width))
    sides = boxes[:, 2:] - boxes[:, :2]
    none = np.zeros(len(boxes), bool)
    objects = Objects(
        (height, width),
        boxes[kept],
        np.asarray(found["label"], int)[kept],
        np.asarray(found.get("is_crowd", none), bool)[kept],
        np.asarray(found.get("area", sides.prod(axis=1)), float)[kept],
        _instances(example[MASK], name, kept) if MASK in example else None,
    )
    return objects, (clipped, int((~kept).sum()), int(not kept.any()))


def _instances(content, name, kept):
    """A reader of a mask, in which objects without area have no number."""

    def read():
        mask = decoded(lambda: content, f"{name}, {MASK}", channels=1)
        numbers = np.zeros(256, "uint8")
        numbers[1 + np.flatnonzero(kept)] = 1 + np.arange(kept.sum())
        return numbers[mask.numpy()[..., 0]]

    return read
