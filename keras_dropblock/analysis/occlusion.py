"""Occlusion: scores when a square hides a part of the image."""

import numpy as np

from keras_dropblock import models
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.scores import scores


def occlude(images, row, column, size, data_format="channels_last"):
    """Hide a square of each image by zeros, the mean of normalized images.

    Args:
        images: normalized images, (images, height, width, channels).
        row, column: first corner of the square, in pixels.
        size: side of the square, in pixels. Parts outside of the image are
            cut off.
        data_format: `"channels_first"` if the images have the shape (images,
            channels, height, width).
    """
    hidden = np.array(images)
    square = slice(row, row + size), slice(column, column + size)
    if data_format == "channels_first":
        hidden[(slice(None), slice(None), *square)] = 0
    else:
        hidden[(slice(None), *square)] = 0
    return hidden


def occlusion_maps(model, images, classes, *, size, stride, batch_size=256):
    """Change of a class's probability when a square slides over the image.

    Args:
        model: `keras.Model` with logits.
        images: normalized array, as the model takes it.
        classes: one class for each image, ints from 0.
        size: side of the square, in pixels, >= 1.
        stride: pixels from one position of the square to the next, >= 1. The
            positions are centered in the image.
        batch_size: images in one call of the model, int >= 1.

    Returns:
        float32 array (images, rows, columns): the probability of the class
        without the square minus that with it, in [-1, 1]. It is positive
        where the square hides evidence for the class.

    Reference:
        Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, section 4.2.
    """
    classes = np.asarray(classes, int)
    whole, hidden = _logits(model, images, size, stride, batch_size)
    before = _probabilities(whole, classes)
    return np.stack(
        [
            np.stack([before - _probabilities(x, classes) for x in row], -1)
            for row in hidden
        ],
        axis=1,
    )


def score_under_occlusion(
    model, images, labels, *, sizes, steps=3, batch_size=256
):
    """Scores when a square of a given size hides a part of each image.

    Args:
        model: `keras.Model` with logits.
        images: normalized array, as the model takes it.
        labels: int array (images,).
        sizes: sides of the square, in pixels.
        steps: positions of the square along each side of the image, >= 1,
            evenly spaced from border to border.
        batch_size: images in one call of the model, int >= 1.

    Returns:
        A list of dicts, first that of the whole images: `size`, 0 for them;
        the means of the scores over all positions (see `scores.scores`); and
        `worst`, the fraction of images that are classified correctly at every
        position.
    """
    labels = np.asarray(labels)
    whole = outputs(model, images, batch_size=batch_size)
    found = scores(whole, labels)
    rows = [{"size": 0, **found, "worst": found["accuracy"]}]
    height, width = _image_size(model, images)
    for size in sizes:
        _check(size, 1, height, width)
        at = [
            np.linspace(0, side - size, steps).round().astype(int)
            for side in (height, width)
        ]
        all_logits = [
            x
            for row in _slide(model, images, *at, size, batch_size)
            for x in row
        ]
        every = [scores(logits, labels) for logits in all_logits]
        correct = [logits.argmax(1) == labels for logits in all_logits]
        rows.append(
            {
                "size": size,
                **{
                    name: float(np.mean([one[name] for one in every]))
                    for name in found
                },
                "images": len(labels),
                "worst": float(np.all(correct, axis=0).mean()),
            }
        )
    return rows


def _logits(model, images, size, stride, batch_size):
    """(logits of the whole images, rows of logits with the square)."""
    height, width = _image_size(model, images)
    _check(size, stride, height, width)
    at = []
    for side in (height, width):
        rest = (side - size) % stride
        at.append(range(rest // 2, side - size + 1, stride))
    whole = outputs(model, images, batch_size=batch_size)
    return whole, _slide(model, images, *at, size, batch_size)


def _slide(model, images, rows, columns, size, batch_size):
    data_format = models.data_format(model)
    return [
        [
            outputs(
                model,
                occlude(images, row, column, size, data_format),
                batch_size=batch_size,
            )
            for column in columns
        ]
        for row in rows
    ]


def _image_size(model, images):
    first = models.data_format(model) == "channels_first"
    return np.shape(images)[2:4] if first else np.shape(images)[1:3]


def _probabilities(logits, classes):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return (shifted / shifted.sum(1, keepdims=True))[
        np.arange(len(classes)), classes
    ]


def _check(size, stride, height, width):
    if not 1 <= size <= min(height, width) or stride < 1:
        raise ValueError(
            "`size` must be between 1 and the shorter side of the image, and "
            f"`stride` at least 1, all in pixels. Received: size={size} and "
            f"stride={stride} for images of {height} x {width}."
        )
