"""Whole images of any size in a frame of fixed size, without cropping.

The image is scaled to the largest size that fits, and placed at the top left.
The rest of the frame is filled with one color. Boxes and masks are scaled in
the same way, and back.
"""

import numpy as np


def content_size(size, frame):
    """Size of an image after it is scaled into a frame.

    Args:
        size: (height, width) of the image, in pixels.
        frame: (height, width) of the frame, in pixels.

    Returns:
        (height, width), each at least 1 and at most that of the frame. The
        aspect ratio is kept up to rounding.
    """
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return tuple(
        max(1, min(limit, round(side * scale)))
        for side, limit in zip(size, frame, strict=True)
    )


def scales(size, frame):
    """Factors from pixels of an image to pixels of the frame.

    Returns:
        float32 array (2,), for y and x. They differ by the rounding of
        `content_size`.
    """
    content = content_size(size, frame)
    return np.array(content, "float32") / np.array(size, "float32")


def graph_content_size(size, frame):
    """`content_size` in a TensorFlow graph, with the same rounding."""
    import tensorflow as tf

    size = tf.cast(size, tf.float64)
    frame = tf.constant(frame, tf.float64)
    scale = tf.reduce_min(frame / size)
    content = tf.clip_by_value(tf.round(size * scale), 1.0, frame)
    return tf.cast(content, tf.int32)


def frame_image(image, frame, fill, interpolation="bilinear"):
    """Scale a whole image into a frame.

    Args:
        image: uint8 tensor (height, width, channels), of any size.
        frame: (height, width) of the result, in pixels.
        fill: the color of the rest of the frame: one gray level of 0 to 255
            for each channel.
        interpolation: a method of `tf.image.resize`. It is antialiased,
            except for `"nearest"`, which is meant for masks.

    Returns:
        uint8 tensor (*frame, channels). An image of this size is unchanged.
    """
    import tensorflow as tf

    channels = image.shape[-1]
    content = graph_content_size(tf.shape(image)[:2], frame)
    image = resized(image, content, interpolation)
    rest = tf.constant(frame, tf.int32) - content
    fill = tf.constant(np.reshape(fill, (1, 1, channels)), tf.uint8)
    # Padding has one color for all channels, so pad the difference.
    padding = [[0, rest[0]], [0, rest[1]], [0, 0]]
    image = tf.pad(tf.cast(image, tf.int16) - tf.cast(fill, tf.int16), padding)
    image = tf.cast(image + tf.cast(fill, tf.int16), tf.uint8)
    return tf.ensure_shape(image, (*frame, channels))


def resized(image, size, interpolation="bilinear"):
    """Resize a uint8 image: antialiased, unless by nearest neighbor."""
    import tensorflow as tf

    smooth = interpolation != "nearest"
    image = tf.image.resize(image, size, interpolation, antialias=smooth)
    if not smooth:
        return image
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
