"""What is done to images before a network sees them: crops, holes, mixtures."""

import numpy as np


def one_hot(labels, num_classes):
    """Labels as rows of zeros with one 1, float32."""
    return np.eye(num_classes, dtype="float32")[labels]


def random_crop(images, rng, pad, flip):
    """Crop each image at its own place from its reflection-padded self.

    Args:
        images: array (images, height, width, channels).
        rng: `numpy.random.Generator`.
        pad: pixels added on every side; the edge is not repeated.
        flip: whether to mirror half of the images left to right.

    Returns:
        Array of the same shape and dtype.
    """
    count, height, width, _ = images.shape
    padded = np.pad(
        images, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode="reflect"
    )
    top, left = rng.integers(0, 2 * pad + 1, size=(2, count, 1))
    rows = top + np.arange(height)
    columns = left + np.arange(width)
    if flip:
        mirrored = rng.random((count, 1)) < 0.5
        columns = np.where(mirrored, columns[:, ::-1], columns)
    return padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]


def cutout(images, rng, size):
    """Blank a square in each image, centred anywhere in it.

    The square has a fixed size; parts of it may lie outside the image.

    Args:
        images: normalised float array (images, height, width, channels). What
            is blanked becomes 0, the mean.
        rng: `numpy.random.Generator`.
        size: side of the square, in pixels.

    Returns:
        A new array of the same shape and dtype.

    Reference:
        DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section
        3.2. Its best sizes are 16 for CIFAR-10 and 8 for CIFAR-100.
    """
    count, height, width, _ = images.shape

    def inside(centre, length):
        first = centre - size // 2
        places = np.arange(length)
        return (places >= first) & (places < first + size)

    rows = inside(rng.integers(0, height, (count, 1)), height)
    columns = inside(rng.integers(0, width, (count, 1)), width)
    square = rows[:, :, None] & columns[:, None, :]
    return np.where(square[..., None], images.dtype.type(0), images)


def mixup(images, labels, rng, alpha):
    """Mix each image and its label with another of the batch.

    Args:
        images: float array (images, height, width, channels).
        labels: one-hot float array (images, classes).
        rng: `numpy.random.Generator`.
        alpha: of Beta(alpha, alpha), from which the share of the first image
            is drawn, one for the batch; > 0.

    Returns:
        (images, labels), mixed.

    Reference:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 2 and
        figure 1.
    """
    share = np.float32(rng.beta(alpha, alpha))
    other = rng.permutation(len(images))
    return (
        share * images + (1 - share) * images[other],
        share * labels + (1 - share) * labels[other],
    )
