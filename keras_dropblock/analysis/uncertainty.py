"""Monte Carlo predictions with layers that drop, and their scores."""

import contextlib
import math
import typing

import keras
import numpy as np

from keras_dropblock.analysis.calibration import softmax
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import dropblock_at_inference, dropping_as_trained


class Uncertain(typing.NamedTuple):
    """Predictions with their uncertainty, one row or number for each image.

    Attributes:
        mean: float64 array (images, classes), the mean probabilities.
        entropy: entropy of the mean, in nats: the predictive uncertainty.
        mutual_information: entropy of the mean minus the mean of the
            entropies, in nats, >= 0: how much the samples disagree. 0 without
            samples.
    """

    mean: np.ndarray
    entropy: np.ndarray
    mutual_information: np.ndarray


def monte_carlo(
    model,
    images,
    *,
    samples=20,
    keep_prob=None,
    block_size=None,
    stochastic_depth=False,
    batch_size=256,
):
    """Predict several times while layers drop, and average.

    Args:
        model: `keras.Model` with logits.
        images: array of images, as the model takes them.
        samples: number of predictions of each image, int >= 1. 0 predicts
            once without dropping.
        keep_prob: keep_prob of DropBlock: see `layers.dropblock_at_inference`.
            Only DropBlock layers drop. None: DropBlock and dropout layers
            drop as in training: see `layers.dropping_as_trained`.
        block_size: block_size of DropBlock, if `keep_prob` is given. None
            keeps that of each layer.
        stochastic_depth: whether StochasticDepth layers drop too, if
            `keep_prob` is None.
        batch_size: images in one call of the model, int >= 1. The scale of
            DropBlock is counted over a batch, so results depend on it
            slightly.

    Returns:
        `Uncertain`.

    Raises:
        ValueError: if the model has no layer that drops.

    Example:
        >>> model = keras_dropblock.load("wrn_16_1_cifar10_dropblock")
        >>> mean, entropy, mutual_information = monte_carlo(model, images)

    Reference:
        Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142. Mutual
        information: Houlsby et al. 2011, https://arxiv.org/abs/1112.5745.
        Stochastic depth: https://arxiv.org/abs/2604.12719.
    """
    if samples < 0 or (keep_prob is None and block_size is not None):
        raise ValueError(
            "`samples` must be >= 0, and `block_size` needs `keep_prob`. "
            f"Received: samples={samples}, keep_prob={keep_prob}, "
            f"block_size={block_size}."
        )
    if samples == 0:
        context = contextlib.nullcontext()
    elif keep_prob is None:
        context = dropping_as_trained(model, stochastic_depth=stochastic_depth)
    else:
        context = dropblock_at_inference(model, keep_prob, block_size)
    parts = []
    with context:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            parts.append(_averaged(model, batch, max(samples, 1)))
    return Uncertain(*map(np.concatenate, zip(*parts, strict=True)))


def drops(model):
    """Whether a model has layers that Monte Carlo predictions can use."""
    try:
        with dropping_as_trained(model, stochastic_depth=True):
            return True
    except ValueError:
        return False


def _averaged(model, images, samples):
    """The fields of `Uncertain` for one batch."""
    mean, mean_entropy = 0.0, 0.0
    for _ in range(samples):
        logits = keras.ops.convert_to_numpy(model(images, training=False))
        probabilities = softmax(logits)
        mean = mean + probabilities / samples
        mean_entropy = mean_entropy + entropy(probabilities) / samples
    total = entropy(mean)
    # Rounding may give -1e-17 if all samples are equal.
    return mean, total, np.maximum(total - mean_entropy, 0)


def entropy(probabilities):
    """Entropy of probabilities (..., classes), in nats."""
    probabilities = np.asarray(probabilities, "float64")
    logarithms = np.log(np.maximum(probabilities, 1e-300))
    return -(probabilities * logarithms).sum(-1)


def auroc(uncertainty, positive):
    """Measure how well an uncertainty separates two kinds of images.

    Args:
        uncertainty: float array (images,).
        positive: bool array (images,), True for images that should have the
            higher uncertainty, such as errors or unknown images.

    Returns:
        Area under the ROC curve: the probability that a positive image has a
        higher uncertainty than another one; a tie counts half. 0.5 is chance.
        NaN if all images are of one kind.
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive, bool)
    pairs = positive.sum() * (~positive).sum()
    if pairs == 0:
        return math.nan
    ranks = rankdata(uncertainty)[positive]
    least = positive.sum() * (positive.sum() + 1) / 2
    return float((ranks.sum() - least) / pairs)


def rejection_curve(uncertainty, correct, points=101):
    """Accuracy on the images that are kept when uncertain ones are rejected.

    Args:
        uncertainty: float array (images,). The highest is rejected first.
        correct: bool array (images,), whether the prediction is right.
        points: number of points of the curve, int >= 2.

    Returns:
        A list of dicts, by falling share: `kept`, the share of images that is
        kept, in (0, 1]; and `accuracy`, a fraction. Images of equal
        uncertainty count with their mean.
    """
    uncertainty = np.asarray(uncertainty, "float64")
    correct = np.asarray(correct, "float64")
    # Give images of equal uncertainty the mean of their correctness.
    _, place = np.unique(uncertainty, return_inverse=True)
    means = np.bincount(place, correct) / np.bincount(place)
    sums = np.cumsum(means[np.sort(place)])
    count = len(correct)
    kept = np.unique(
        np.ceil(np.linspace(0, 1, points)[1:] * count).astype(int)
    )[::-1]
    return [
        {"kept": float(k / count), "accuracy": float(sums[k - 1] / k)}
        for k in kept
    ]


def score_uncertainty(predictions, labels):
    """Scores of uncertain predictions, and how well they find errors.

    Args:
        predictions: `Uncertain`.
        labels: int array (images,).

    Returns:
        A dict with the scores of the mean probabilities (see
        `scores.scores`); `entropy` and `mutual_information`, their means in
        nats; `error_auroc_entropy` and `error_auroc_mutual_information`, see
        `auroc`; and `auarc`, the area under the curve of accuracy against the
        share of images that is rejected by entropy.
    """
    found = scores(np.log(np.maximum(predictions.mean, 1e-300)), labels)
    wrong = predictions.mean.argmax(1) != np.asarray(labels)
    curve = rejection_curve(predictions.entropy, ~wrong, len(wrong) + 1)
    for name in ("entropy", "mutual_information"):
        values = getattr(predictions, name)
        found[name] = float(values.mean())
        found[f"error_auroc_{name}"] = auroc(values, wrong)
    found["auarc"] = float(np.mean([point["accuracy"] for point in curve]))
    return found


def score_unknown(known, unknown):
    """Measure how well uncertainty separates unknown classes from known ones.

    Args:
        known, unknown: `Uncertain` of images of each kind.

    Returns:
        A dict: `unknown_auroc_entropy` and `unknown_auroc_mutual_information`:
        see `auroc`; `images`, the number of unknown images.
    """
    positive = np.arange(len(known.entropy) + len(unknown.entropy))
    positive = positive >= len(known.entropy)
    found = {
        f"unknown_auroc_{name}": auroc(
            np.concatenate([getattr(known, name), getattr(unknown, name)]),
            positive,
        )
        for name in ("entropy", "mutual_information")
    }
    return {**found, "images": len(unknown.entropy)}
