"""What is done to images before a network sees them: crops, holes, mixtures.

`draw` takes the random numbers of a batch from a NumPy generator; the other
functions apply them, to arrays of NumPy or of JAX alike.
"""

import numpy as np


def draw(rng, count, height, width, *, pad=0, flip=False, cutout=0, mixup=0.0):
    """Draw all that is random about a batch.

    Args:
        rng: `numpy.random.Generator`.
        count, height, width: of the images.
        pad: pixels added on every side before a crop; 0: no crop.
        flip: whether to mirror half of the images left to right.
        cutout: side in pixels of the square that is blanked; 0: none. Its
            centre lies anywhere in the image, so parts of it may be outside.
        mixup: alpha of Beta(alpha, alpha), from which the share of the first
            image of each pair is drawn, one for the batch; 0: none.

    Returns:
        A dict of arrays: arguments of `crop`, `blank` and `mix`, each in a
        tuple under the function's name, where it has something to do.
    """
    drawn = {}
    if pad or flip:
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
    """What was drawn for some of the images of a batch, without mixup.

    Args:
        drawn: from `draw`.
        places: slice of the batch.
    """
    return {
        name: tuple(array[places] for array in arrays)
        for name, arrays in drawn.items()
    }


def _interval(centre, size, length):
    """Which places of a line the square covers: bool (images, length)."""
    first, places = centre - size // 2, np.arange(length)
    return (places >= first) & (places < first + size)


def apply(drawn, images, labels, *, pad, normalise):
    """Crop, normalise, blank and mix a batch as drawn.

    Args:
        drawn: from `draw`.
        images: uint8 array (images, height, width, channels).
        labels: one-hot float array (images, classes).
        pad: as in `draw`.
        normalise: function from uint8 images to float32 ones.

    Returns:
        (float32 images, labels)
    """
    if "crop" in drawn:
        images = crop(images, *drawn["crop"], pad)
    images = normalise(images)
    if "blank" in drawn:
        images = blank(images, *drawn["blank"])
    if "mix" in drawn:
        images, labels = mix(images, labels, *drawn["mix"])
    return images, labels


def crop(images, rows, columns, pad):
    """Take from each reflection-padded image its own rows and columns.

    Args:
        images: array (images, height, width, channels).
        rows, columns: int arrays (images, height) and (images, width), from 0
            at the padded image's first.
        pad: pixels added on every side; the edge is not repeated.

    Returns:
        Array of the same dtype, (images, rows, columns, channels).

    Reference:
        Zagoruyko and Komodakis 2016, section 3.
    """
    count, height, width, channels = images.shape
    # The pixels of all images in one line, and where in it each is taken.
    image = np.arange(count)[:, None, None] * height
    row = (image + _reflected(rows - pad, height)[:, :, None]) * width
    places = row + _reflected(columns - pad, width)[:, None, :]
    pixels = images.reshape(-1, channels)
    return _library(images).take(pixels, places, axis=0)


def _reflected(places, length):
    """Places on a line, those beyond its ends mirrored into it."""
    period = max(2 * length - 2, 1)
    places = abs(places) % period
    return _library(places).minimum(places, period - places)


def blank(images, rows, columns):
    """Blank a rectangle in each image: Cutout.

    Args:
        images: normalised float array (images, height, width, channels). What
            is blanked becomes 0, the mean.
        rows, columns: bool arrays (images, height) and (images, width).

    Returns:
        A new array of the same shape and dtype.

    Reference:
        DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section
        3.2. Its best sizes are 16 for CIFAR-10 and 8 for CIFAR-100.
    """
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return _library(images).where(square, np.float32(0), images)


def mix(images, labels, share, other):
    """Mix each image and its label with another of the batch: mixup.

    Args:
        images: float array (images, height, width, channels).
        labels: one-hot float array (images, classes).
        share: of the image itself, in [0, 1].
        other: int array (images,), which one each is mixed with.

    Returns:
        (images, labels), mixed.

    Reference:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 2 and
        figure 1.
    """
    return (
        share * images + (1 - share) * images[other],
        share * labels + (1 - share) * labels[other],
    )


def _library(array):
    if isinstance(array, np.ndarray):
        return np
    import jax.numpy

    return jax.numpy
