"""Labels for images, by a model and what travels with it."""

import os
import pathlib

import keras
import numpy as np

from keras_dropblock.data import headers
from keras_dropblock.data.images import decode, fit_to_size
from keras_dropblock.data.tfds import tensorflow

_AT_ONCE = 1024  # images, that memory be bounded


def predict_images(model, images, *, card=None, batch_size=128):
    """Classify image files or arrays.

    They are brought to the network's size and normalised as the test images
    of its training were, and as the exported `serve_bytes` does. That is
    TensorFlow's work on every backend; arrays of the network's size need it
    not.

    Args:
        model: a model that gives logits, of `models.load`.
        images: a list, or array, of images. Each is the path of a JPEG or
            PNG file, of at most 2^25 pixels; or a uint8 array (height, width,
            channels), of any size and the network's channels.
        card: `models.cards.Card` with the classes and the preprocessing, or
            None for the model's own.
        batch_size: images that go through the network at once.

    Returns:
        (labels, probabilities): a list with the name of the likeliest class
        of each image, and a float32 array (images, classes).

    Raises:
        ValueError: for a model without a card, or an image that cannot be
            read or has other channels; it says which.
        ImportError: for files, or arrays of another size, without TensorFlow.

    Example:
        >>> model = models.load("wrn_16_1_cifar10_dropblock")
        >>> labels, probabilities = predict_images(model, ["cat.png"])
    """
    card = card or getattr(model, "card", None)
    if card is None:
        raise ValueError(
            "`model` must have a card, as those of models.load do, or `card` "
            "be given: its classes and preprocessing are not known else."
        )
    if isinstance(images, str | os.PathLike) or (
        isinstance(images, np.ndarray) and images.ndim != 4
    ):
        raise ValueError(
            "`images` must be a list of paths or arrays, or one array of 4 "
            "dimensions. Did you mean a list of this one? Received: "
            f"{getattr(images, 'shape', images)}."
        )
    channels_last = _data_format(model) == "channels_last"
    known = model.inputs[0].shape[1:]
    if not channels_last:
        known = (*known[1:], known[0])
    # A network that takes all sizes gets the one that it was trained with.
    shape = tuple(
        size or usual
        for size, usual in zip(known, card.image_shape, strict=True)
    )
    probabilities = [np.zeros((0, len(card.class_names)), "float32")]
    for start in range(0, len(images), _AT_ONCE):
        pixels = [
            _pixels(image, start + i, shape, card.recipe.central_part)
            for i, image in enumerate(images[start : start + _AT_ONCE])
        ]
        x = card.normalise(np.stack(pixels))
        if not channels_last:
            x = np.moveaxis(x, 3, 1)
        logits = model.predict(x, batch_size=batch_size, verbose=0)
        softmax = keras.ops.softmax(logits.astype("float32"))
        probabilities.append(keras.ops.convert_to_numpy(softmax))
    probabilities = np.concatenate(probabilities)
    labels = [card.class_names[i] for i in probabilities.argmax(1)]
    return labels, probabilities


def _data_format(model):
    """That of a model, which need not be the default now."""
    for layer in model._flatten_layers():
        if hasattr(layer, "data_format"):
            return layer.data_format
    return keras.config.image_data_format()


def _pixels(image, index, shape, central_part):
    """An image as a uint8 array of a shape."""
    if isinstance(image, str | os.PathLike):
        image = _read(pathlib.Path(image), shape[-1])
    elif (
        getattr(image, "dtype", None) != np.uint8
        or image.ndim != 3
        or image.shape[-1] != shape[-1]
        or 0 in image.shape
    ):
        raise ValueError(
            "Each of `images` must be a path or a uint8 array (height, width, "
            f"{shape[-1]}). Received at {index}: "
            f"{getattr(image, 'dtype', type(image).__name__)} "
            f"{getattr(image, 'shape', '')}."
        )
    if image.shape == shape and central_part == 1.0:
        return np.asarray(image)
    tf = _tensorflow("Images of another size than the network's")
    return fit_to_size(tf.constant(image), shape[:2], central_part).numpy()


def _read(path, channels):
    encoded = path.read_bytes()
    tf = _tensorflow("Image files")
    try:
        status = headers.status(encoded).numpy().decode()
        if status == headers.OK:
            return decode(encoded, channels).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be decoded: {str(error).splitlines()[0]}"
        ) from error
    if status == headers.TOO_LARGE:
        raise ValueError(
            f"{path} must have at most {headers.MAX_PIXELS:,} pixels, "
            f"{headers.MAX_SIDE:,} a side, and {headers.MAX_SCANS} scans if "
            "it is a JPEG file. It has more."
        )
    raise ValueError(
        f"{path} must be a whole JPEG or PNG file. It is {status}, "
        f"{len(encoded):,} bytes."
    )


def _tensorflow(what):
    try:
        return tensorflow()
    except ImportError as error:
        raise ImportError(
            f"{what} are read and resized with TensorFlow on every backend. "
            "Run: pip install tensorflow-cpu, or give uint8 arrays of the "
            "network's size."
        ) from error
