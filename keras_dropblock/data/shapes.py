"""Generated images of textured shapes, with exact boxes and masks.

They need no files, so detection and segmentation can be tried and tested on
any machine. An image depends only on its split and index.
"""

import functools

import numpy as np

from keras_dropblock.data.annotated import (
    AnnotatedDataset,
    BoxRows,
    Objects,
    Rows,
)
from keras_dropblock.errors import DataError

NAME = "shapes"
CLASS_NAMES = ("disk", "square", "triangle")
COUNTS = {"train": 128, "test": 32}
_SIZE = (96, 128)
_MOST = 4  # shapes in an image
_LEAST_VISIBLE = 0.3  # fraction of a shape that others must leave visible


def load(options):
    """Generate the data set: 128 training and 32 test images.

    Each image has a textured ground and one to four shapes with random colors
    and textures. Their sides are 16 pixels to half of the height. A shape may
    cover parts of others. Boxes enclose the visible part of a shape.

    Args:
        options: `data.Options`. `image_size` is (96, 128) if it is None.

    Returns:
        `AnnotatedDataset` with boxes or masks.
    """
    frame = options.frame or _SIZE
    if min(frame) < 48:
        raise DataError(
            "`image_size` must be at least 48 for the data set shapes. "
            f"Received: image_size={options.image_size}."
        )
    arrays = {
        split: _rows(split, count, frame, options.labels)
        for split, count in COUNTS.items()
    }
    names = CLASS_NAMES
    if options.labels == "masks":
        names = ("ground", *CLASS_NAMES)
    return AnnotatedDataset(arrays, names)


def _rows(split, count, frame, labels):
    images = Rows(
        [functools.partial(_image, split, i, frame) for i in range(count)],
        (*frame, 3),
    )
    if labels == "masks":
        masks = [
            functools.partial(_mask, split, i, frame) for i in range(count)
        ]
        return images, Rows(masks, frame)
    objects = [_objects(split, i, frame) for i in range(count)]
    return images, BoxRows(objects, frame)


def _image(split, index, frame):
    return example(split, index, frame)[0]


def _mask(split, index, frame):
    _, classes, instances = example(split, index, frame)
    return np.concatenate([[0], classes + 1]).astype("uint8")[instances]


def _objects(split, index, frame):
    _, classes, instances = example(split, index, frame)
    boxes = np.zeros((len(classes), 4), "float32")
    area = np.zeros(len(classes))
    for i in range(len(classes)):
        rows, columns = np.nonzero(instances == i + 1)
        boxes[i] = (
            rows.min(),
            columns.min(),
            rows.max() + 1,
            columns.max() + 1,
        )
        area[i] = len(rows)
    crowd = np.zeros(len(classes), bool)
    return Objects(frame, boxes, classes, crowd, area)


@functools.lru_cache(1024)
def example(split, index, frame):
    """One image of the data set.

    Args:
        split: a key of `COUNTS`.
        index: index of the image, from 0.
        frame: (height, width) in pixels.

    Returns:
        (uint8 image (*frame, 3), classes (n,), instances): `instances` is an
        int array of the shape `frame` with 0 for the ground and i + 1 for the
        visible pixels of the shape with `classes[i]`.
    """
    rng = np.random.default_rng([sorted(COUNTS).index(split), index])
    image = _texture(rng, frame)
    instances = np.zeros(frame, "int32")
    classes, whole = [], []
    for _ in range(rng.integers(1, _MOST + 1)):
        kind = int(rng.integers(len(CLASS_NAMES)))
        inside = _shape(rng, kind, frame)
        covered = np.where(inside, 0, instances)
        visible = np.bincount(covered.ravel(), minlength=len(whole) + 1)[1:]
        if any(visible < _LEAST_VISIBLE * np.array(whole)):
            continue  # it would hide another shape
        classes.append(kind)
        whole.append(inside.sum())
        instances = np.where(inside, len(classes), instances)
        image = np.where(inside[..., None], _texture(rng, frame), image)
    return image, np.array(classes), instances


def _shape(rng, kind, frame):
    """Pixels of a shape at a random place: bool array of the shape `frame`."""
    side = rng.uniform(16, frame[0] / 2)
    top, left = rng.random(2) * (np.array(frame) - side)
    rows = (np.arange(frame[0])[:, None] + 0.5 - top) / side
    columns = (np.arange(frame[1]) + 0.5 - left) / side
    if kind == 0:
        return (rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.25
    inside = (rows > 0) & (rows < 1) & (columns > 0) & (columns < 1)
    if kind == 1:
        return inside
    return inside & (abs(columns - 0.5) < rows / 2)


def _texture(rng, frame):
    """Stripes between two colors in a random direction, with noise."""
    one, other = rng.integers(0, 256, (2, 3))
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 20)
    y, x = np.arange(frame[0])[:, None], np.arange(frame[1])
    wave = np.sin(2 * np.pi * (y * np.sin(angle) + x * np.cos(angle)) / period)
    share = (0.25 + 0.1 * wave)[..., None]
    image = one + share * (other - one) + rng.normal(0, 8, (*frame, 1))
    return image.clip(0, 255).astype("uint8")
