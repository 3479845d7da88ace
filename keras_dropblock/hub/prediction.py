"""Predict images with a model and its card."""

import os

import numpy as np

from keras_dropblock import tasks
from keras_dropblock.errors import WeightsError


def predict(model, images, *, top=5, card=None, batch_size=128):
    """Predict the classes of images, their objects, or their pixels.

    Images are resized and normalized by the card's preprocessing, as in an
    exported `serve_bytes`. Files, and arrays that must be resized, need
    TensorFlow on every backend.

    Args:
        model: a model from `load`, or another model and `card=`.
        images: a list or array of images. Each is the path of a JPEG or PNG
            file of at most 2^25 pixels, or a uint8 array (height, width,
            channels) of any size with the network's channels.
        top: number of classes to return for each image, the most probable
            ones, int >= 1.
        card: `hub.Card`. None: that of the model.
        batch_size: images per call of the network, int >= 1.

    Returns:
        For classification, a list with one entry for each image: a list of
        (label, probability), the most probable first. For the other tasks,
        see `tasks.Detection.predict` and `tasks.Segmentation.predict`.

    Raises:
        WeightsError: if the model has no card.
        ValueError: if an image cannot be read or has the wrong number of
            channels. The message names the image.
        MissingExtraError: if TensorFlow is needed but not installed.

    Example:
        >>> model = keras_dropblock.load("wrn_16_1_cifar10_dropblock")
        >>> keras_dropblock.predict(model, ["cat.png"], top=1)
        [[('cat', 0.93)]]
    """
    card = card or getattr(model, "card", None)
    if card is None:
        raise WeightsError(
            "`model` has no card. Load it with `keras_dropblock.load`, or "
            "pass `card=`."
        )
    if isinstance(images, str | os.PathLike) or (
        isinstance(images, np.ndarray) and images.ndim != 4
    ):
        raise ValueError(
            "`images` must be a list of paths or arrays, or one array of 4 "
            "dimensions. Received: "
            f"images={getattr(images, 'shape', images)}. Did you mean a list "
            "with this image?"
        )
    task = tasks.find(card.task)()
    return task.predict(model, card, images, top=top, batch_size=batch_size)
