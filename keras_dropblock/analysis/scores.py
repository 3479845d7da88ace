"""Accuracy, likelihood and calibration from logits."""

import numpy as np


def scores(logits, labels, bins=15):
    """Score a classifier on a labelled set.

    Args:
        logits: float array (images, classes).
        labels: int array (images,).
        bins: intervals of equal width of the confidence, for ECE.

    Returns:
        A dict: `accuracy`, a fraction; `top5`, the fraction of images whose
        class is among the five likeliest; `nll`, the mean negative
        log-likelihood in nats; `ece`, the expected calibration error, a
        fraction; `images`, their count.

    Raises:
        ValueError: if there are no images, or not one label for each.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3 (ECE).
    """
    logits = np.asarray(logits, "float64")
    labels = np.asarray(labels)
    if len(logits) == 0 or len(logits) != len(labels):
        raise ValueError(
            "`logits` and `labels` must hold one row and one label for each "
            f"image, and one at least. Received: {len(logits)} and "
            f"{len(labels)}."
        )
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    confidence = np.exp(log_probabilities.max(1))
    correct = log_probabilities.argmax(1) == labels
    of_label = log_probabilities[np.arange(len(labels)), labels]
    # Of equal ones the first counts, as for the accuracy.
    likeliest = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :5]
    # Bin i holds the confidences in (i / bins, (i + 1) / bins].
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return {
        "accuracy": float(correct.mean()),
        "top5": float((likeliest == labels[:, None]).any(1).mean()),
        "nll": float(-of_label.mean()),
        "ece": float(abs(gap).sum() / len(labels)),
        "images": len(labels),
    }
