import numpy as np
import pytest

from keras_dropblock.analysis.scores import scores


def test_scores_by_hand():
    # Probabilities .8/.2, right; .6/.4, wrong; .6/.4, right; .5/.5, right.
    p = np.array([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4], [0.5, 0.5]])
    result = scores(np.log(p) + 7.0, np.array([0, 1, 0, 0]))
    assert result["accuracy"] == 0.75 and result["images"] == 4
    nll = -np.log([0.8, 0.4, 0.6, 0.5]).mean()
    assert result["nll"] == pytest.approx(nll)
    # Bins of 1/15: .8 alone (gap .2); both .6 (accuracy .5, gap .1 * 2); .5
    # alone (gap .5). Weighted by their counts and divided by 4.
    assert result["ece"] == pytest.approx((0.2 + 0.2 + 0.5) / 4)


def test_calibration_has_15_bins():
    # Wrong at .54, right at the others: gaps .48, -.54 and .41.
    p = np.array([0.52, 0.54, 0.59])
    result = scores(np.log(np.stack([p, 1 - p], 1)), np.array([0, 1, 0]))
    # The bin edge 8/15 = .533 separates the first from the others, whose gaps
    # are added. With 10 bins all three would be in one bin, with 14 or 16 the
    # first two.
    assert result["ece"] == pytest.approx((0.48 + 0.13) / 3)


def test_a_calibrated_classifier_has_no_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 200_000)
    labels = (rng.random(p.size) > p).astype(int)
    result = scores(np.log(np.stack([p, 1 - p], 1)), labels)
    # 8 bins are used, with 25,000 images each: standard error < .0032.
    assert result["ece"] < 4 * 0.0032


def test_top_5_counts_the_five_likeliest_classes():
    logits = np.tile(np.arange(7.0), (7, 1))  # class 6 is the most probable
    result = scores(logits, np.arange(7))
    assert result["top5"] == 5 / 7 and result["accuracy"] == 1 / 7
    assert scores(logits[:2, :2], np.array([0, 1]))["top5"] == 1.0
    assert scores(np.zeros((7, 7)), np.arange(7))["top5"] == 5 / 7


def test_large_logits_do_not_overflow():
    result = scores(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))
    assert result["accuracy"] == 0.5 and result["nll"] == pytest.approx(5e3)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="`logits` and `labels` must have"):
        scores(np.zeros((0, 3)), np.zeros(0, int))
