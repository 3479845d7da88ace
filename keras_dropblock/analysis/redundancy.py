"""Redundancy of dropped units: how well their neighbors predict them."""

import re

import keras
import numpy as np

from keras_dropblock.analysis.interception import read_feature_maps
from keras_dropblock.layers import masks


def measure_redundancy(
    model,
    images,
    layers=None,
    *,
    keep_prob=0.9,
    block_size=7,
    window=5,
    seed=0,
):
    """Measure how well kept units predict the units that are dropped.

    The reason for DropBlock is that neighboring units of a feature map have
    similar information. If single units are dropped, their neighbors still
    have it. See `redundancy` for the measure.

    Masks are drawn on the output of each layer, as DropBlock draws them, with
    a separate mask for each channel.

    Args:
        model: `keras.Model`.
        images: array of images, as the model takes them. 200 are usually
            enough.
        layers: names of the layers with the feature maps. None: the groups of
            a network of this package, `group1`, `group2`, ...
        keep_prob: fraction of units that both methods keep, in (0, 1).
        block_size: side of a block of DropBlock, int >= 1. It is clamped to
            maps that are smaller.
        window: side of the window of neighbors, an odd int >= 3.
        seed: seed of the masks.

    Returns:
        A list of dicts, two for each layer: `layer`; `method`, `"Dropout"` or
        `"DropBlock"`; `block_size`; `keep_prob`; `dropped`, the fraction of
        dropped units; `r2`: see `redundancy`.

    Raises:
        ValueError: if there is no such layer, or the model has no groups.

    Reference:
        Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 1 and
        figure 1, state the reason. The measure is ours.
    """
    if layers is None:
        names = [layer.name for layer in model.layers]
        layers = [name for name in names if re.fullmatch(r"group\d+", name)]
    if not layers:
        raise ValueError(
            "`layers` must name the layers with feature maps. "
            f"{model.name} has no layers group1, group2, ... to take instead."
        )
    rows = []
    for layer, maps in zip(
        layers, read_feature_maps(model, images, layers), strict=True
    ):
        for method, size in (("Dropout", 1), ("DropBlock", block_size)):
            dropped = draw_dropped(maps.shape, keep_prob, size, seed)
            rows.append(
                {
                    "layer": getattr(layer, "name", layer),
                    "method": method,
                    "block_size": size,
                    "keep_prob": keep_prob,
                    "dropped": float(dropped.mean()),
                    "r2": redundancy(maps, dropped, window),
                }
            )
    return rows


def draw_dropped(shape, keep_prob, block_size, seed):
    """Draw which units DropBlock drops: a bool array of a shape.

    Args:
        shape: (images, height, width, channels).
        others: see `measure_redundancy`.
    """
    dropped = masks.dropped_units(
        shape,
        spatial_axes=[1, 2],
        keep_prob=keep_prob,
        block_size=block_size,
        seed_generator=keras.random.SeedGenerator(seed),
        shared_axis=None,
    )
    return np.broadcast_to(keras.ops.convert_to_numpy(dropped), shape)


def redundancy(maps, dropped, window=5):
    """R squared of predicting dropped units from the kept units around them.

    For each channel, a linear regression predicts each dropped unit from the
    other units of the same channel in a window around it. Units of the window
    that are dropped too, or lie outside of the map, count as the channel's
    mean. The regression is fitted on the first half of the images, and R
    squared is computed on the second half.

    Args:
        maps: float array (images, height, width, channels).
        dropped: bool array of the same shape, True where a unit is dropped.
        window: side of the window, an odd int >= 3.

    Returns:
        R squared over all channels, each divided by its standard deviation:
        1 if the kept units determine the dropped ones, about 0 if they do not
        predict them. A channel does not count if it is constant, or if the
        number of its dropped units is less than twice the number of
        coefficients. NaN if no channel counts.

    Raises:
        ValueError: for an even window, or other shapes.
    """
    if window < 3 or window % 2 == 0:
        raise ValueError(
            "`window` must be an odd int >= 3, the side of the window around "
            f"a dropped unit. Received: window={window}."
        )
    if np.ndim(maps) != 4 or np.shape(maps) != np.shape(dropped):
        raise ValueError(
            "`maps` and `dropped` must have the same shape (images, height, "
            f"width, channels). Received: {np.shape(maps)} and "
            f"{np.shape(dropped)}."
        )
    half = len(maps) // 2
    errors, totals = 0.0, 0.0
    for channel in range(maps.shape[-1]):
        values = np.asarray(maps[..., channel], "float64")
        known = values[:half]
        if half and known.std() > 0:
            values = (values - known.mean()) / known.std()
            error, total = _errors(values, dropped[..., channel], window)
            errors, totals = errors + error, totals + total
    return float(1 - errors / totals) if totals else float("nan")


def _errors(values, dropped, window):
    """(sum of squared errors, total sum of squares) on the second half.

    Both are 0 if there are too few dropped units to fit the regression.
    """
    around = _neighbors(np.where(dropped, 0.0, values), window)
    half = len(values) // 2
    fit, test = dropped.copy(), dropped.copy()
    fit[half:], test[:half] = False, False
    if fit.sum() < 2 * window**2 or not test.any():
        return 0.0, 0.0
    coefficients, *_ = np.linalg.lstsq(around[fit], values[fit], rcond=None)
    predicted = around[test] @ coefficients
    target = values[test]
    return (
        np.square(target - predicted).sum(),
        np.square(target - target.mean()).sum(),
    )


def _neighbors(values, window):
    """The units around each unit, and a 1: (images, height, width, window^2).

    The center of the window is replaced by the 1.
    """
    side = window // 2
    padded = np.pad(values, ((0, 0), (side, side), (side, side)))
    views = np.lib.stride_tricks.sliding_window_view(
        padded, (window, window), axis=(1, 2)
    )
    around = views.reshape(*values.shape, window**2).copy()
    around[..., window**2 // 2] = 1.0
    return around
