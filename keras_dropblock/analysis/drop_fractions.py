"""The fraction of units that DropBlock drops, computed exactly."""

import numpy as np

from keras_dropblock.layers import masks


def by_position(keep_prob, block_size, height, width=None):
    """Probability that DropBlock drops each unit of a feature map.

    A unit is dropped if a block starts at one of the positions that cover it.
    Units near the border are covered by fewer positions than units in the
    middle.

    Args:
        keep_prob: fraction of units to keep, in [0, 1].
        block_size: side of a block in units of the map, int >= 1. It is
            clamped to the map on each axis, as in the layer.
        height, width: size of the map in units. `width=None`: a square.

    Returns:
        float64 array (height, width) of probabilities in [0, 1].
    """
    shape = (height, height if width is None else width)
    sides = masks.clamp_block(block_size, shape)
    gamma = masks.seed_rate(keep_prob, sides, shape)
    rows, columns = (
        np.convolve(np.ones(size - side + 1), np.ones(side))
        for size, side in zip(shape, sides, strict=True)
    )
    return 1.0 - (1.0 - gamma) ** np.outer(rows, columns)


def expected(keep_prob, block_size, height, width=None):
    """Expected fraction of the units of a feature map that are dropped.

    It is slightly below `1 - keep_prob`, because blocks overlap.

    Args:
        keep_prob: fraction of units to keep, in [0, 1].
        block_size: side of a block in units of the map, int >= 1.
        height, width: size of the map in units. `width=None`: a square.

    Returns:
        The fraction, a float in [0, 1].

    Example:
        >>> round(expected(0.9, 7, 14), 4)
        0.0929
    """
    return float(by_position(keep_prob, block_size, height, width).mean())
