"""Augmentation of images for training: crops, flips, Cutout and mixup.

`draw` draws the random numbers of a batch with a NumPy generator. The other
functions apply them to NumPy or JAX arrays. `geometry` moves boxes and masks
together with their images.
"""

import numpy as np

from keras_dropblock.data import geometry


def draw(
    rng,
    count,
    height,
    width,
    *,
    pad=0,
    flip=False,
    cutout=0,
    mixup=0.0,
    jitter=None,
):
    """Draw the random numbers for the augmentation of a batch.

    Args:
        rng: `numpy.random.Generator`.
        count: number of images.
        height, width: size of the images, in pixels.
        pad: pixels added on every side before a crop; 0: no crop.
        flip: whether to mirror half of the images left to right.
        cutout: side in pixels of the square that is blanked; 0: none. The
            center of the square may be anywhere in the image, so the square
            may extend beyond the edge.
        mixup: alpha of Beta(alpha, alpha), from which the weight of the first
            image of each pair is drawn, once for the whole batch; 0: no
            mixup.
        jitter: (lowest, highest) factor of the size, for images with boxes or
            masks. It cannot be used together with `pad`. None: no jitter.

    Returns:
        A dict from `"crop"`, `"move"`, `"blank"` and `"mix"` to a tuple of
        arguments of the function with that name. A function that has nothing
        to do is left out.
    """
    drawn = {}
    if jitter is not None:
        drawn["move"] = geometry.draw(
            rng, count, height, width, jitter=jitter, flip=flip
        )
    elif pad or flip:
        top, left = rng.integers(0, 2 * pad + 1, size=(2, count, 1))
        rows, columns = top + np.arange(height), left + np.arange(width)
        if flip:
            mirrored = rng.random((count, 1)) < 0.5
            columns = np.where(mirrored, columns[:, ::-1], columns)
        drawn["crop"] = (rows, columns)
    if cutout:
        drawn["blank"] = tuple(
            _interval(rng.integers(0, length, (count, 1)), cutout, length)
            for length in (height, width)
        )
    if mixup:
        share = np.float32(rng.beta(mixup, mixup))
        drawn["mix"] = (share, rng.permutation(count))
    return drawn


def part(drawn, places):
    """Select the random numbers of some images of a batch.

    Args:
        drawn: result of `draw` without mixup.
        places: slice of the batch.
    """
    return {
        name: tuple(array[places] for array in arrays)
        for name, arrays in drawn.items()
    }


def _interval(center, size, length):
    """Positions of an axis that the square covers: bool (images, length)."""
    first, places = center - size // 2, np.arange(length)
    return (places >= first) & (places < first + size)


def apply(drawn, images, targets, *, pad, normalize):
    """Crop, normalize, move, blank and mix a batch.

    Args:
        drawn: result of `draw`.
        images: uint8 array (images, height, width, channels).
        targets: float array (images, ...). With `move`, see `geometry.move`.
        pad: see `draw`.
        normalize: function from uint8 images to normalized float32 images.

    Returns:
        (float32 images, targets)
    """
    if "crop" in drawn:
        images = crop(images, *drawn["crop"], pad)
    images = normalize(images)
    if "move" in drawn:
        images, targets = geometry.move(images, targets, *drawn["move"])
    if "blank" in drawn:
        images = blank(images, *drawn["blank"])
    if "mix" in drawn:
        images, targets = mix(images, targets, *drawn["mix"])
    return images, targets


def crop(images, rows, columns, pad):
    """Pad each image by reflection, and select its own rows and columns.

    Args:
        images: array (images, height, width, channels).
        rows, columns: int arrays (images, height) and (images, width) with
            indices into the padded image, from 0.
        pad: pixels added on every side; the edge pixel is not repeated.

    Returns:
        Array of the same dtype, (images, rows, columns, channels).

    Reference:
        Zagoruyko and Komodakis 2016, section 3.
    """
    count, height, width, channels = images.shape
    # Indices into the pixels of all images as one flat array.
    image = np.arange(count)[:, None, None] * height
    row = (image + _reflected(rows - pad, height)[:, :, None]) * width
    places = row + _reflected(columns - pad, width)[:, None, :]
    pixels = images.reshape(-1, channels)
    return _library(images).take(pixels, places, axis=0)


def _reflected(places, length):
    """Map indices outside of [0, length) into it by reflection."""
    period = max(2 * length - 2, 1)
    places = abs(places) % period
    return _library(places).minimum(places, period - places)


def blank(images, rows, columns):
    """Blank a rectangle in each image: Cutout.

    Args:
        images: normalized float array (images, height, width, channels).
            Blanked pixels become 0, which is the mean.
        rows, columns: bool arrays (images, height) and (images, width).

    Returns:
        A new array of the same shape and dtype.

    Reference:
        DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section
        3.2. The best sizes in the paper are 16 for CIFAR-10 and 8 for
        CIFAR-100.
    """
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return _library(images).where(square, np.float32(0), images)


def mix(images, targets, share, other):
    """Mix each image and its target with another image of the batch: mixup.

    Args:
        images: float array (images, height, width, channels).
        targets: float array (images, ...).
        share: weight of the image itself, in [0, 1].
        other: int array (images,), index of the image to mix with.

    Returns:
        (images, targets), mixed.

    Reference:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 2 and
        figure 1.
    """
    return (
        share * images + (1 - share) * images[other],
        share * targets + (1 - share) * targets[other],
    )


def _library(array):
    if isinstance(array, np.ndarray):
        return np
    import jax.numpy

    return jax.numpy
