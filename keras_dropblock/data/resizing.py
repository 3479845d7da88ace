"""Resize images as Pillow does, then crop them, as timm and torchvision do."""

# How timm resizes an image to `size / crop_fraction`, before the crop.
RESIZE_FIRST = ("resize_crop", "squash_crop", "border_crop")


def resize_and_crop(
    image, size, crop_fraction, framing, interpolation, fill=()
):
    """Resize an image, then cut out its center.

    The result is that of timm's and torchvision's evaluation transforms, which
    use Pillow. `fit_to_size` crops first, so its pixels differ by several gray
    levels.

    Args:
        image: uint8 TensorFlow tensor (height, width, channels), of any size.
        size: (height, width) of the result, in pixels.
        crop_fraction: fraction of the resized image that the crop keeps on
            each axis, in (0, 1]: the image is resized to
            `floor(size / crop_fraction)`.
        framing: `"resize_crop"`: this is the size of the shorter side, and
            the aspect ratio stays. `"squash_crop"`: both sides get this size.
            `"border_crop"`: this is the size of the longer side, the aspect
            ratio stays, and borders are added.
        interpolation: `"bilinear"` or `"bicubic"`.
        fill: gray level of the borders, for each channel.

    Returns:
        uint8 tensor (*size, channels).

    Reference:
        timm/data/transforms_factory.py, `transforms_imagenet_eval`.
    """
    import tensorflow as tf

    scaled = [int(side / crop_fraction) for side in size]
    shape = tf.shape(image)[:2]
    new_shape = _new_shape(shape, scaled, framing)
    image = _resize(image, new_shape, interpolation)
    if framing == "border_crop":
        image = _with_borders(image, size, fill)
    height, width = tf.unstack(tf.shape(image)[:2])
    # Half to even, as Python rounds.
    top = tf.cast(tf.round((height - size[0]) / 2), tf.int32)
    left = tf.cast(tf.round((width - size[1]) / 2), tf.int32)
    image = image[top : top + size[0], left : left + size[1]]
    return tf.ensure_shape(image, (*size, image.shape[-1]))


def _new_shape(shape, scaled, framing):
    """(height, width) of the resized image, an int32 tensor."""
    import tensorflow as tf

    if framing == "squash_crop":
        return tf.constant(scaled)
    if framing == "resize_crop" and scaled[0] == scaled[1]:
        # torchvision truncates the longer side.
        side = tf.cast(scaled[0], tf.int64)
        whole = tf.cast(shape, tf.int64)
        return tf.cast(side * whole // tf.reduce_min(whole), tf.int32)
    # timm rounds both sides.
    sides = tf.cast(shape, tf.float64)
    ratios = sides / tf.constant(scaled, tf.float64)
    if framing == "resize_crop":
        ratio = tf.reduce_min(ratios)
    else:
        ratio = tf.reduce_max(ratios)
    return tf.maximum(tf.cast(tf.round(sides / ratio), tf.int32), 1)


def _resize(image, shape, interpolation):
    """Resize the width, then the height, as Pillow does."""
    for axis in (1, 0):
        image = _resize_axis(image, axis, shape[axis], interpolation)
    return image


def _resize_axis(image, axis, size, interpolation):
    """Resize one axis to `size`, with exactly the pixels of Pillow.

    Pillow rounds the weights to 22 binary digits, computes with integers, and
    rounds to uint8 after each axis. `tf.image.resize` computes with floating
    point numbers, and 4 % of its pixels differ for some sizes.

    Reference:
        python-pillow/Pillow, src/libImaging/Resample.c.
    """
    import tensorflow as tf

    first, weights = _weights(tf.shape(image)[axis], size, interpolation)
    pixels = tf.cast(image, tf.int32)
    last = tf.shape(image)[axis] - 1
    column = (-1, 1, 1) if axis == 0 else (1, -1, 1)

    def add(tap, total):
        # A tap beyond the last pixel has the weight 0.
        neighbors = tf.gather(pixels, tf.minimum(first + tap, last), axis=axis)
        return tap + 1, total + neighbors * tf.reshape(weights[:, tap], column)

    start = tf.gather(pixels, tf.zeros_like(first), axis=axis) * 0 + _HALF
    _, total = tf.while_loop(
        lambda tap, total: tap < tf.shape(weights)[1],
        add,
        (0, start),
        shape_invariants=(
            tf.TensorShape(()),
            tf.TensorShape((None, None, image.shape[-1])),
        ),
    )
    total = tf.bitwise.right_shift(total, _DIGITS)
    return tf.cast(tf.clip_by_value(total, 0, 255), tf.uint8)


def _weights(before, after, interpolation):
    """Weights of the input pixels for each output pixel of one axis.

    Args:
        before, after: numbers of pixels, int32 tensors.
        interpolation: see `resize_and_crop`.

    Returns:
        (first input pixel of each output pixel, int32 (after,); weights of
        this and the following pixels, int32 (after, taps), whose sum is about
        2^22).
    """
    import tensorflow as tf

    kernel, radius = _KERNELS[interpolation]
    scale = tf.cast(before, tf.float64) / tf.cast(after, tf.float64)
    stretch = tf.maximum(scale, 1.0)  # antialiasing
    reach = radius * stretch
    center = (tf.range(after, dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(center - reach + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(center + reach + 0.5, tf.int32), before)
    x = first[:, None] + tf.range(tf.reduce_max(end - first))
    distance = (tf.cast(x, tf.float64) - center[:, None] + 0.5) / stretch
    weights = tf.where(x < end[:, None], kernel(tf.abs(distance)), 0.0)
    weights /= tf.reduce_sum(weights, 1, keepdims=True)
    # The cast truncates, so this rounds half away from zero.
    weights = weights * 2**_DIGITS + 0.5 * tf.sign(weights)
    return first, tf.cast(weights, tf.int32)


def _triangle(x):
    import tensorflow as tf

    return tf.maximum(1.0 - x, 0.0)


def _cubic(x):
    """Keys's cubic with a = -0.5."""
    import tensorflow as tf

    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))


_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
_DIGITS = 22  # of the weights, after the binary point
_HALF = 2 ** (_DIGITS - 1)


def _with_borders(image, size, fill):
    """Add borders where an image is smaller than `size`."""
    import tensorflow as tf

    missing = tf.maximum(tf.constant(size) - tf.shape(image)[:2], 0)
    before = missing // 2
    pads = tf.concat(
        [tf.stack([before, missing - before], 1), tf.zeros((1, 2), tf.int32)],
        0,
    )
    color = tf.constant(fill, tf.int32)
    shifted = tf.cast(image, tf.int32) - color
    return tf.cast(tf.pad(shifted, pads) + color, tf.uint8)
