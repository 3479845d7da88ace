"""Accuracy, likelihood and calibration, computed from logits."""

import numpy as np

from keras_dropblock.analysis.calibration import bin_of


def scores(logits, labels, bins=15):
    """Compute the scores of a classifier on labeled images.

    Args:
        logits: float array (images, classes).
        labels: int array (images,).
        bins: number of confidence intervals of equal width, for the ECE.

    Returns:
        A dict: `accuracy`, a fraction; `top5`, the fraction of images whose
        true class is among the five most likely ones; `nll`, the mean
        negative log-likelihood in nats; `ece`, the expected calibration
        error, a fraction; `images`, the number of images.

    Raises:
        ValueError: if there are no images, or the numbers of images and
            labels differ.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3 (ECE).
    """
    logits = np.asarray(logits, "float64")
    labels = np.asarray(labels)
    if len(logits) == 0 or len(logits) != len(labels):
        raise ValueError(
            "`logits` and `labels` must have the same length >= 1, the number "
            f"of images. Received: {len(logits)} logits and {len(labels)} "
            "labels."
        )
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    confidence = np.exp(log_probabilities.max(1))
    correct = log_probabilities.argmax(1) == labels
    of_label = log_probabilities[np.arange(len(labels)), labels]
    # Stable: of classes with equal probability, the first comes first, as
    # with `argmax`.
    likeliest = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :5]
    gap = np.bincount(
        bin_of(confidence, bins),
        weights=correct - confidence,
        minlength=bins,
    )
    return {
        "accuracy": float(correct.mean()),
        "top5": float((likeliest == labels[:, None]).any(1).mean()),
        "nll": float(-of_label.mean()),
        "ece": float(abs(gap).sum() / len(labels)),
        "images": len(labels),
    }
