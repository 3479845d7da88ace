"""From an encoded photograph to the size of a network, with TensorFlow."""

# Of the part of a photograph that training sees: share of its area, and
# width over height.
AREA = (0.08, 1.0)
ASPECT_RATIO = (3 / 4, 4 / 3)


def decode(encoded, channels=3):
    """Decode an image file.

    Args:
        encoded: scalar string tensor, a JPEG, PNG, GIF or BMP file.
        channels: 3, or 1 for the grey levels of a JPEG or PNG file.

    Returns:
        uint8 tensor (height, width, channels). Grey levels and CMYK become
        RGB, transparency is left out, of a GIF the first picture is taken.
    """
    import tensorflow as tf

    return tf.io.decode_image(
        encoded, channels=channels, expand_animations=False
    )


def fit_to_size(image, size, central_part=1.0):
    """Resize the largest central part of an image that has the wanted shape.

    Args:
        image: uint8 TensorFlow tensor (height, width, channels), of any size.
        size: (height, width) in pixels.
        central_part: share of that part's sides that is taken, in (0, 1].
            ImageNet's usual test crop, 224 of 256 pixels, is 0.875.

    Returns:
        uint8 tensor (*size, channels), antialiased; the image itself where it
        has that size and all of it is taken.
    """
    import tensorflow as tf

    height, width = tf.shape(image)[0], tf.shape(image)[1]

    def central(length):
        part = tf.round(tf.cast(length, tf.float32) * central_part)
        return tf.maximum(tf.cast(part, tf.int32), 1)

    # The larger of the two that fits: all of the height, or all of the width.
    part_height = central(tf.minimum(height, width * size[0] // size[1]))
    part_width = central(tf.minimum(width, height * size[1] // size[0]))
    top, left = (height - part_height) // 2, (width - part_width) // 2
    image = image[top : top + part_height, left : left + part_width]
    return resize(image, size)


def resized_crop_flip(encoded, size, seed):
    """Resize a random part of a photograph, and mirror half of them.

    The part has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3,
    both drawn uniformly; a photograph too narrow for any such part, of one
    pixel say, is taken whole. Torch's RandomResizedCrop draws the logarithm
    of the aspect ratio instead.

    Args:
        encoded: scalar string tensor, an image file.
        size: (height, width) in pixels.
        seed: two integers; the same give the same part.

    Returns:
        uint8 tensor (*size, 3), antialiased.

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


def resize(image, size):
    """Resize a uint8 image, antialiased, to a uint8 one."""
    import tensorflow as tf

    image = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _random_part(encoded, seed):
    import tensorflow as tf

    def window(shape):
        begin, part, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.zeros((1, 0, 4)),  # no box: of the whole image
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT_RATIO,
            area_range=AREA,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return begin, part

    def of_jpeg():  # decodes no more than the part
        shape = tf.image.extract_jpeg_shape(encoded)
        (top, left, _), (height, width, _) = map(tf.unstack, window(shape))
        return tf.image.decode_and_crop_jpeg(
            encoded, tf.stack([top, left, height, width]), channels=3
        )

    def of_others():
        image = decode(encoded)
        begin, part = window(tf.shape(image))
        return tf.slice(image, begin, part)

    image = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_others)
    image.set_shape((None, None, 3))
    return image
