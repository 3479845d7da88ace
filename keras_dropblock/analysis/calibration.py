"""Calibration: whether predictions are right as often as they claim."""

import math

import numpy as np


def bin_of(confidence, bins):
    """The index of the interval (i / bins, (i + 1) / bins] of each number.

    Args:
        confidence: float array of numbers in [0, 1].
        bins: number of intervals of equal width.
    """
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def reliability(probabilities, labels, bins=15):
    """Accuracy by confidence, the numbers of a reliability diagram.

    The expected calibration error of `scores.scores` is the mean of |accuracy
    - confidence| over the intervals, weighted by `images`.

    Args:
        probabilities: float array (images, classes), from 0 to 1.
        labels: int array (images,).
        bins: number of confidence intervals of equal width, int >= 1.

    Returns:
        A list with a dict for each interval: `low` and `high`, its ends;
        `images`, how many have their highest probability in it; `confidence`
        and `accuracy`, the means of highest probability and correctness. They
        are NaN without images.

    Raises:
        ValueError: if the numbers of images and labels differ.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2.
    """
    probabilities = np.asarray(probabilities, "float64")
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(
            "`probabilities` must have the shape (images, classes), with one "
            f"row for each label. Received: shape {probabilities.shape} and "
            f"{len(labels)} labels."
        )
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    interval = bin_of(confidence, bins)
    rows = []
    for i in range(bins):
        inside = interval == i
        some = inside.any()
        rows.append(
            {
                "low": i / bins,
                "high": (i + 1) / bins,
                "images": int(inside.sum()),
                "confidence": confidence[inside].mean() if some else math.nan,
                "accuracy": correct[inside].mean() if some else math.nan,
            }
        )
    return rows


def fit_temperature(logits, labels):
    """The temperature that makes labeled images most likely.

    Divide logits by it before the softmax. The predicted classes stay the
    same. Fit it on images that the network was not trained on, and not on
    those that are used to report scores: the validation split.

    Args:
        logits: float array (images, classes).
        labels: int array (images,).

    Returns:
        A float in [0.01, 100]. More than 1 means that the network was too
        confident.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, "float64")
    labels = np.asarray(labels)
    if logits.ndim != 2 or len(logits) != len(labels) or not len(labels):
        raise ValueError(
            "`logits` must have the shape (images, classes), with one row for "
            f"each label, at least one. Received: shape {logits.shape} and "
            f"{len(labels)} labels."
        )
    logits = logits - logits.max(1, keepdims=True)
    of_label = logits[np.arange(len(labels)), labels]

    def likelihood(inverse):
        sums = np.log(np.exp(inverse * logits).sum(1))
        return (sums - inverse * of_label).mean()

    # The mean negative log-likelihood is convex in 1 / temperature.
    found = minimize_scalar(
        likelihood,
        bounds=(0.01, 100),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(1 / found.x)


def softmax(logits):
    """Probabilities of logits (..., classes), in float64."""
    logits = np.asarray(logits, "float64")
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
