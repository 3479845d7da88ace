"""Spread of activation maps: their area, peaks, entropy and share inside."""

import numpy as np


def measure_spread(maps, masks=None):
    """Measure how far each activation map spreads over its image.

    Only positive values count: they are evidence for the class.

    Args:
        maps: float array (images, map height, map width), from
            `class_activation_maps` or `grad_cam`.
        masks: bool array (images, height, width), True on the object. Each
            map is resized to it, bilinearly. None: no masks.

    Returns:
        A dict of float arrays (images,):

        - `area`: fraction of the positions with at least half of the map's
          maximum, in (0, 1].
        - `peaks`: number of connected regions of these positions. Positions
          that touch at a corner are connected.
        - `entropy`: entropy of the map as a distribution over its positions,
          divided by its largest possible value: 0 for a single position, 1
          for a constant map.
        - `inside`, if there are masks: fraction of the map's sum on the
          object, in [0, 1].

        All are NaN for a map that is nowhere positive.

    Raises:
        ValueError: if `maps` or `masks` have another shape.

    Example:
        >>> measure_spread(np.ones((1, 4, 6)))["area"]
        array([1.])
    """
    maps = np.asarray(maps, "float64")
    if maps.ndim != 3:
        raise ValueError(
            "`maps` must have the shape (images, map height, map width). "
            f"Received: maps.shape={maps.shape}."
        )
    positive = np.maximum(maps, 0)
    measures = {
        "area": _each(_area, positive),
        "peaks": _each(_peaks, positive),
        "entropy": _each(_entropy, positive),
    }
    if masks is not None:
        measures["inside"] = _each(_inside, positive, _checked(masks, maps))
    return measures


def summarize(measures):
    """Mean and standard deviation over the images, and how many count.

    Args:
        measures: result of `measure_spread`.

    Returns:
        A dict: `area`, `area_std` and so on for each measure, NaN if no image
        counts; `images`, the number of images; `empty`, the number of maps
        that are nowhere positive and do not count.
    """
    result = {}
    for name, values in measures.items():
        known = values[np.isfinite(values)]
        result[name] = float(known.mean()) if len(known) else float("nan")
        spread = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
        result[f"{name}_std"] = spread
        result["images"] = len(values)
        result["empty"] = len(values) - len(known)
    return result


def _each(measure, positive, *others):
    return np.array(
        [
            measure(*row) if row[0].max(initial=0) > 0 else np.nan
            for row in zip(positive, *others, strict=True)
        ],
        "float64",
    )


def _area(positive):
    return (positive >= positive.max() / 2).mean()


def _peaks(positive):
    from scipy import ndimage

    high = positive >= positive.max() / 2
    return ndimage.label(high, structure=np.ones((3, 3)))[1]


def _entropy(positive):
    if positive.size == 1:
        return 0.0
    shares = positive[positive > 0] / positive.sum()
    return -(shares * np.log(shares)).sum() / np.log(positive.size)


def _inside(positive, mask):
    resized = resize(positive, mask.shape)
    return (resized * mask).sum() / resized.sum()


def resize(array, size):
    """Resize a map to (height, width), bilinearly, as images are resized.

    Args:
        array: float array (map height, map width).
        size: (height, width) of the result, in pixels.
    """
    from scipy import ndimage

    # The center of output pixel i lies at (i + 1/2) * ratio - 1/2.
    axes = [
        (np.arange(new) + 0.5) * old / new - 0.5
        for old, new in zip(array.shape, size, strict=True)
    ]
    places = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(array, places, order=1, mode="nearest")


def _checked(masks, maps):
    masks = np.asarray(masks)
    if masks.ndim != 3 or len(masks) != len(maps) or masks.dtype != bool:
        raise ValueError(
            "`masks` must be a bool array (images, height, width) with one "
            f"mask for each of the {len(maps)} maps. Received: {masks.dtype} "
            f"of shape {masks.shape}."
        )
    return masks
