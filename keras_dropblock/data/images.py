"""Fitting a decoded image to the size of a network, for training and export."""


def fit_to_size(image, size):
    """Resize the largest central part of an image that has the wanted shape.

    Args:
        image: uint8 TensorFlow tensor (height, width, channels), of any size.
        size: (height, width) in pixels.

    Returns:
        uint8 tensor (*size, channels), antialiased; the image itself where it
        has that size.
    """
    import tensorflow as tf

    height, width = tf.shape(image)[0], tf.shape(image)[1]
    # The larger of the two that fits: all of the height, or all of the width.
    part_height = tf.minimum(height, width * size[0] // size[1])
    part_width = tf.minimum(width, height * size[1] // size[0])
    part_height, part_width = (
        tf.maximum(part_height, 1),
        tf.maximum(part_width, 1),
    )
    top, left = (height - part_height) // 2, (width - part_width) // 2
    image = image[top : top + part_height, left : left + part_width]
    image = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
