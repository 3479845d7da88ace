"""Files of images and masks, as functions that read and check one."""

import struct

import numpy as np

from keras_dropblock.data import framing
from keras_dropblock.data.geometry import IGNORED
from keras_dropblock.data.images import decode, tensorflow
from keras_dropblock.errors import DataError


def image_row(read, name, options, size=None):
    """A reader of an image, scaled into a frame.

    Args:
        read: function that returns the content of the image file.
        name: name of the image, for error messages.
        options: `sources.Options`, for the frame and the color of its rest.
        size: (height, width) that the image should have; None: any.

    Returns:
        A function that returns a uint8 array (*options.frame, 3).
    """

    def row():
        image = decoded(read, name)
        if size is not None and tuple(image.shape[:2]) != tuple(size):
            raise DataError(
                f"{name} must have the size of its annotation, {tuple(size)}. "
                f"It has {tuple(image.shape[:2])}."
            )
        framed = framing.frame_image(image, options.frame, options.fill)
        return framed.numpy()

    return row


def mask_row(read, name, frame, classes, ignored, size_of):
    """A reader of a mask, scaled into a frame without new labels.

    Args:
        read, name: see `image_row`.
        frame: (height, width) in pixels.
        classes: number of classes; labels are 0, ..., classes - 1.
        ignored: further labels that mean "not labeled".
        size_of: function that returns (height, width) of the mask's image.

    Returns:
        A function that returns a uint8 array, `frame`. `IGNORED` marks what
        is not labeled and what is outside of the image.
    """

    def row():
        mask = decoded(read, name, channels=1).numpy()
        if mask.shape[:2] != tuple(size_of()):
            raise DataError(
                f"{name} must have the size of its image, {tuple(size_of())}. "
                f"It has {mask.shape[:2]}."
            )
        mask = np.where(np.isin(mask, (*ignored, IGNORED)), IGNORED, mask)
        wrong = np.setdiff1d(mask, [*range(classes), IGNORED])
        if len(wrong):
            raise DataError(
                f"{name} must have labels below {classes}, the number of "
                f"classes, or {IGNORED} where nothing is labeled. Received: "
                f"{wrong.tolist()}. If one of them means that nothing is "
                "labeled, set ignored_labels."
            )
        tf = tensorflow()
        fill = (IGNORED,)
        mask = tf.constant(mask.astype("uint8"))
        return framing.frame_image(mask, frame, fill, "nearest").numpy()[..., 0]

    return row


def decoded(read, name, channels=3):
    """Decode an image file, or raise a DataError that names it."""
    tf = tensorflow()
    try:
        with tf.device("CPU"):
            return decode(read(), channels)
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise DataError(
            f"{name} cannot be decoded: {str(error).splitlines()[0]}"
        ) from error


def file_size(content, name):
    """(height, width) of an image file, from its header."""
    if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    tf = tensorflow()
    try:
        height, width, _ = tf.io.extract_jpeg_shape(content).numpy()
    except tf.errors.OpError as error:
        raise DataError(
            f"{name} cannot be decoded: {str(error).splitlines()[0]}"
        ) from error
    return int(height), int(width)
