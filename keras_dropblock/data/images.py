"""Decoding, cropping and resizing of images with TensorFlow."""

import os
import pathlib

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.data import headers
from keras_dropblock.errors import MissingExtraError

# Ranges of the random crop in training: its fraction of the area of the
# photograph, and its width divided by its height.
AREA = (0.08, 1.0)
ASPECT_RATIO = (3 / 4, 4 / 3)
# Decoding of JPEG files as in Pillow, torchvision and OpenCV. With
# TensorFlow's default, gray levels differ by up to 5.
DCT_METHOD = "INTEGER_ACCURATE"


def tensorflow():
    """Import TensorFlow for reading data.

    GPUs are hidden from it if another backend needs them.
    """
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    return tf


def decode(encoded, channels=3):
    """Decode an image file.

    Args:
        encoded: scalar string tensor, a JPEG, PNG, GIF or BMP file.
        channels: 3, or 1 for the gray levels of a JPEG or PNG file, or 4 for
            a PNG file with transparency.

    Returns:
        uint8 tensor (height, width, channels). The pixels of a JPEG file are
        those of Pillow and torchvision. Gray levels and CMYK become RGB.
        Transparency is ignored. Only the first frame of a GIF is used.
    """
    import tensorflow as tf

    def of_any():
        return tf.io.decode_image(
            encoded, channels=channels, expand_animations=False
        )

    def of_jpeg():
        return tf.io.decode_jpeg(
            encoded, channels=channels, dct_method=DCT_METHOD
        )

    if channels == 4:  # not possible for a JPEG file: an error
        return of_any()
    image = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_any)
    image.set_shape((None, None, channels))
    return image


def fit_to_size(image, size, crop_fraction=1.0, interpolation="bilinear"):
    """Crop the center of an image to the aspect ratio of `size`, and resize.

    Args:
        image: uint8 TensorFlow tensor (height, width, channels), of any size.
        size: (height, width) in pixels.
        crop_fraction: side of the crop, as a fraction of the side of the
            largest possible central crop, in (0, 1]. The usual test crop of
            ImageNet, 224 of 256 pixels, is 0.875.
        interpolation: a method of `tf.image.resize`.

    Returns:
        uint8 tensor (*size, channels), resized with antialiasing. An image
        that already has this size is unchanged if `crop_fraction` is 1.
    """
    import tensorflow as tf

    height, width = tf.shape(image)[0], tf.shape(image)[1]

    def central(length):
        part = tf.round(tf.cast(length, tf.float32) * crop_fraction)
        return tf.maximum(tf.cast(part, tf.int32), 1)

    # The largest crop has the full height or the full width of the image.
    part_height = central(tf.minimum(height, width * size[0] // size[1]))
    part_width = central(tf.minimum(width, height * size[1] // size[0]))
    top, left = (height - part_height) // 2, (width - part_width) // 2
    image = image[top : top + part_height, left : left + part_width]
    return resize(image, size, interpolation)


def resized_crop_flip(encoded, size, seed):
    """Crop a random part of a photograph, resize it, and flip it randomly.

    The part has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3,
    both drawn uniformly. If the photograph is too narrow for such a part, the
    whole photograph is used. Torch's RandomResizedCrop draws the logarithm of
    the aspect ratio uniformly instead. The flip, left to right, has a
    probability of 1/2.

    Args:
        encoded: scalar string tensor, an image file.
        size: (height, width) in pixels.
        seed: two integers. The same seed gives the same part and flip.

    Returns:
        uint8 tensor (*size, 3), resized with antialiasing.

    Reference:
        Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """
    import tensorflow as tf

    crop_seed, flip_seed = tf.unstack(
        tf.random.split(tf.cast(tf.stack(seed), tf.int64), 2)
    )
    image = _random_part(encoded, crop_seed)
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return resize(image, size)


def resize(image, size, interpolation="bilinear"):
    """Resize a uint8 image to a uint8 image, with antialiasing."""
    import tensorflow as tf

    image = tf.image.resize(image, size, interpolation, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _random_part(encoded, seed):
    import tensorflow as tf

    def window(shape):
        begin, part, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.zeros((1, 0, 4)),  # no bounding box: use the whole image
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT_RATIO,
            area_range=AREA,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return begin, part

    def of_jpeg():  # decodes only the part
        shape = tf.image.extract_jpeg_shape(encoded)
        (top, left, _), (height, width, _) = map(tf.unstack, window(shape))
        return tf.image.decode_and_crop_jpeg(
            encoded,
            tf.stack([top, left, height, width]),
            channels=3,
            dct_method=DCT_METHOD,
        )

    def of_others():
        image = decode(encoded)
        begin, part = window(tf.shape(image))
        return tf.slice(image, begin, part)

    image = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_others)
    image.set_shape((None, None, 3))
    return image


def read_all(images, preprocessing, first=0):
    """Read image files or arrays, and crop and resize them into one array.

    Args:
        images: list or array of images. Each is the path of a JPEG or PNG
            file of at most 2^25 pixels, or a uint8 array (height, width,
            channels).
        preprocessing: `Preprocessing`, whose `fit` is applied.
        first: index of the first image, for error messages.

    Returns:
        uint8 array (images, *preprocessing.image_shape).

    Raises:
        ValueError: for an image that cannot be read, or that has the wrong
            number of channels.
        MissingExtraError: if an image must be read or resized, and TensorFlow
            is not installed.
    """
    shape = preprocessing.image_shape
    pixels = [np.zeros((0, *shape), "uint8")]
    for image in arrays(images, shape[-1], first):
        if image.shape != shape or preprocessing.crop_fraction != 1.0:
            tf = _tensorflow("Images that do not have the network's size")
            image = preprocessing.fit(tf.constant(image)).numpy()
        pixels.append(image[None])
    return np.concatenate(pixels)


def write_png(path, image):
    """Write a uint8 array (height, width, channels) to a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        encoded = tensorflow().io.encode_png(image).numpy()
        pathlib.Path(temporary).write_bytes(encoded)


def arrays(images, channels, first=0):
    """Yield images as uint8 arrays of their own sizes: see `read`."""
    for i, image in enumerate(images, first):
        yield _as_array(image, i, channels)


def _as_array(image, index, channels):
    """Convert a path or an array to a uint8 array."""
    if isinstance(image, str | os.PathLike):
        return _read(pathlib.Path(image), channels)
    if (
        getattr(image, "dtype", None) != np.uint8
        or image.ndim != 3
        or image.shape[-1] != channels
        or 0 in image.shape
    ):
        raise ValueError(
            "Each of `images` must be a path or a uint8 array (height, width, "
            f"{channels}). Received at {index}: "
            f"{getattr(image, 'dtype', type(image).__name__)} "
            f"{getattr(image, 'shape', '')}."
        )
    return np.asarray(image)


def _read(path, channels):
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder. Each of `images` must be a path of a file: "
            f"sorted(pathlib.Path({str(path)!r}).glob('*.jpg'))."
        )
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
            f"{path} must have at most {headers.MAX_PIXELS:,} pixels, sides "
            f"of at most {headers.MAX_SIDE:,} pixels and, as a JPEG file, at "
            f"most {headers.MAX_SCANS} scans. It exceeds one of these limits."
        )
    raise ValueError(
        f"{path} must be a complete JPEG or PNG file. It is {status}, "
        f"{len(encoded):,} bytes."
    )


def _tensorflow(what):
    try:
        return tensorflow()
    except ImportError as error:
        raise MissingExtraError(
            f"{what} are read and resized with TensorFlow on every backend. "
            "Run: pip install tensorflow-cpu, or pass uint8 arrays that have "
            "the network's size."
        ) from error
