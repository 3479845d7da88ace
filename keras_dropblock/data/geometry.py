"""Scale jitter, crop and flip of images together with their boxes and masks.

`draw` draws one movement for each image of a batch, and `move` applies it. A
movement scales an image about its top left corner, and cuts a window of the
image's own size at a random place. If the scaled image is smaller than the
window, it is placed at random in the window.
"""

import numpy as np

IGNORED = 255  # label of the pixels of a mask that do not count
NO_BOX = -1  # label of a row without a box


def draw(rng, count, height, width, *, jitter, flip):
    """Draw the movements of a batch.

    Args:
        rng: `numpy.random.Generator`.
        count: number of images.
        height, width: size of the images, in pixels.
        jitter: (lowest, highest) factor of the size.
        flip: whether to mirror half of the images left to right.

    Returns:
        A tuple of arrays, the arguments of `move`: scale (count,), offset
        (count, 2) of the window in the scaled image, in pixels of y and x,
        and mirrored (count,).
    """
    scale = rng.uniform(*jitter, count)
    room = np.outer(scale - 1, (height, width))
    offset = room * rng.random((count, 2))
    mirrored = rng.random(count) < (0.5 if flip else 0.0)
    return scale.astype("float32"), offset.astype("float32"), mirrored


def move(images, targets, scale, offset, mirrored):
    """Move a batch of images with its targets.

    Args:
        images: normalized float32 array (images, height, width, channels).
            Pixels from outside of an image become 0, the mean.
        targets: masks, an integer array (images, height, width), in which
            pixels from outside become `IGNORED`; or a dict with `boxes`
            (images, n, 4) as y and x of the two corners in pixels, and
            `labels` (images, n).
        scale, offset, mirrored: from `draw`.

    Returns:
        (images, targets), moved. If less than one pixel of a box's height or
        width is left, the box becomes 0, with the label `NO_BOX`.
    """
    size = images.shape[1:3]
    matrices = _matrices(size[1], scale, offset, mirrored)
    moved = _warped(images, matrices, "BILINEAR", 0.0)
    if isinstance(targets, dict):
        boxes = moved_boxes(targets["boxes"], size, scale, offset, mirrored)
        return moved, kept_boxes(boxes, targets["labels"])
    # Float32 holds the labels of masks exactly.
    masks = np.asarray(targets, "float32")[..., None]
    masks = _warped(masks, matrices, "NEAREST", float(IGNORED))
    return moved, masks[..., 0].astype(targets.dtype)


def _matrices(width, scale, offset, mirrored):
    """Maps from output to input pixels, as TensorFlow takes them: (n, 8).

    The center of pixel x is at x + 1/2, so x comes from (x + 1/2 + offset) /
    scale - 1/2. A mirrored x is width - 1 - x first.
    """
    result = np.zeros((len(scale), 8), "float32")
    sign = np.where(mirrored, -1.0, 1.0)
    first = np.where(mirrored, width - 0.5, 0.5)
    result[:, 0] = sign / scale
    result[:, 2] = (first + offset[:, 1]) / scale - 0.5
    result[:, 4] = 1 / scale
    result[:, 5] = (0.5 + offset[:, 0]) / scale - 0.5
    return result


def _warped(images, matrices, interpolation, fill):
    from keras_dropblock.data.images import tensorflow

    tf = tensorflow()
    with tf.device("CPU"):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=matrices,
            output_shape=images.shape[1:3],
            interpolation=interpolation,
            fill_mode="CONSTANT",
            fill_value=fill,
        ).numpy()


def moved_boxes(boxes, size, scale, offset, mirrored):
    """Move boxes (images, n, 4) like `move`, and clip them to the image."""
    height, width = size
    corners = boxes.reshape(*boxes.shape[:2], 2, 2) * scale[:, None, None, None]
    corners = corners - offset[:, None, None, :]
    y, x = corners[..., 0], corners[..., 1]
    x = np.where(mirrored[:, None, None], width - x[..., ::-1], x)
    y, x = np.clip(y, 0, height), np.clip(x, 0, width)
    result = np.stack([y[..., 0], x[..., 0], y[..., 1], x[..., 1]], axis=-1)
    return result.astype("float32")


def kept_boxes(boxes, labels):
    """Mark boxes with a side below one pixel: see `move`."""
    sides = boxes[..., 2:] - boxes[..., :2]
    kept = (labels != NO_BOX) & (sides >= 1).all(axis=-1)
    return {
        "boxes": np.where(kept[..., None], boxes, np.float32(0)),
        "labels": np.where(kept, labels, labels.dtype.type(NO_BOX)),
    }
