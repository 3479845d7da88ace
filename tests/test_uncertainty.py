"""Uncertainty, how well it finds errors, and calibration."""

import keras
import numpy as np
import pytest

from keras_dropblock import layers, models
from keras_dropblock.analysis import calibration, uncertainty
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.scores import scores
from keras_dropblock.analysis.uncertainty import Uncertain, monte_carlo


def drops_half():
    """Logits (4 x, 0), where x = 1 is dropped half of the time, or doubled."""
    inputs = keras.Input((1,))
    x = layers.StochasticDepth(0.5, seed=1)(inputs)
    x = layers.Dropout(0.5, seed=2)(x)
    dense = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, dense(x))
    dense.set_weights([np.array([[4.0, 0.0]])])
    return model


ONES = np.ones((300, 1), "float32")


def test_samples_of_dropout_by_hand():
    # x is 0 or 2: the first class has the probability 1/2 or 1 / (1 + e^-8).
    found = monte_carlo(drops_half(), ONES, samples=40)
    high = 1 / (1 + np.exp(-8.0))
    share = found.mean[:, 0].mean()
    assert share == pytest.approx((0.5 + high) / 2, abs=5 * 0.25 / 110)
    # The entropies are ln 2 and about 0, so their mean is linear in the share
    # of drops, and so is the probability.
    drops = (high - found.mean[:, 0]) / (high - 0.5)
    sure = uncertainty.entropy([high, 1 - high])
    expected = drops * np.log(2) + (1 - drops) * sure
    information = uncertainty.entropy(found.mean) - expected
    assert np.allclose(found.mutual_information, information)
    assert np.allclose(found.entropy, uncertainty.entropy(found.mean))


def test_without_samples_nothing_is_dropped():
    model = drops_half()
    found = monte_carlo(model, ONES, samples=0, batch_size=7)
    logits = outputs(model, ONES)
    assert np.allclose(found.mean, calibration.softmax(logits))
    assert not found.mutual_information.any()


def test_stochastic_depth_adds_disagreement():
    model = drops_half()
    without = monte_carlo(model, ONES, samples=30)
    with_it = monte_carlo(model, ONES, samples=30, stochastic_depth=True)
    # x is not 0 in a quarter of the samples instead of half of them.
    assert with_it.mean[:, 0].mean() < without.mean[:, 0].mean() - 0.1


def test_more_dropped_blocks_disagree_more():
    keras.utils.set_random_seed(0)
    model = models.WRN(
        10, 1, num_classes=3, input_shape=(16, 16, 3), keep_prob=0.9
    )
    images = np.random.default_rng(0).normal(size=(10, 16, 16, 3))
    found = [
        monte_carlo(
            model, images, samples=5, keep_prob=keep_prob, block_size=2
        ).mutual_information.mean()
        for keep_prob in (1.0, 0.9, 0.3)
    ]
    assert found[0] < 1e-6 < found[1] < found[2]
    assert monte_carlo(model, images, samples=5).mutual_information.mean() > 0
    with pytest.raises(ValueError, match="`block_size` needs `keep_prob`"):
        monte_carlo(model, images, block_size=3)


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, 60) / 8  # with ties
    positive = rng.random(60) < 0.3
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a in values[positive]
        for b in values[~positive]
    ]
    assert uncertainty.auroc(values, positive) == pytest.approx(np.mean(pairs))
    assert uncertainty.auroc([1, 2, 3], [False, False, True]) == 1
    assert uncertainty.auroc([1, 1], [False, True]) == 0.5
    assert np.isnan(uncertainty.auroc([1, 2], [True, True]))


def test_rejection_by_hand():
    curve = uncertainty.rejection_curve(
        [0.1, 0.9, 0.4, 0.4], [True, False, True, False], points=5
    )
    assert [point["kept"] for point in curve] == [1, 0.75, 0.5, 0.25]
    # Of the two images of uncertainty .4, each counts as half right.
    found = [point["accuracy"] for point in curve]
    assert np.allclose(found, [2 / 4, 2 / 3, 1.5 / 2, 1])


def test_uncertainty_that_knows_the_errors_has_the_best_scores():
    mean = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.55, 0.45]])
    predictions = Uncertain(mean, uncertainty.entropy(mean), np.zeros(4))
    found = uncertainty.score_uncertainty(predictions, [0, 0, 1, 1])
    assert found["accuracy"] == 0.75 and found["error_auroc_entropy"] == 1
    assert found["error_auroc_mutual_information"] == 0.5
    assert found["auarc"] == pytest.approx((1 + 1 + 1 + 0.75) / 4)
    nll = -np.log([0.9, 0.8, 0.6, 0.45]).mean()
    assert found["nll"] == pytest.approx(nll)
    unknown = Uncertain(mean[:2], np.array([0.69, 0.4]), np.zeros(2))
    found = uncertainty.score_unknown(predictions, unknown)
    # Entropies .325, .500, .673, .688 of known images.
    assert found["unknown_auroc_entropy"] == pytest.approx((4 + 1) / 8)
    assert found["images"] == 2


def test_the_reliability_diagram_adds_up_to_the_ece():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4)) * 2
    labels = rng.integers(0, 4, 500)
    for bins in (10, 15):
        rows = calibration.reliability(
            calibration.softmax(logits), labels, bins
        )
        assert sum(row["images"] for row in rows) == 500
        gaps = [
            row["images"] * abs(row["accuracy"] - row["confidence"])
            for row in rows
            if row["images"]
        ]
        found = scores(logits, labels, bins)
        assert sum(gaps) / 500 == pytest.approx(found["ece"])
        for row in rows:
            if row["images"]:
                assert row["low"] < row["confidence"] <= row["high"]
            else:
                assert np.isnan(row["accuracy"])


def test_an_interval_contains_its_upper_end():
    found = calibration.bin_of(np.array([0.0, 0.2, 0.21, 0.6, 1.0]), 5)
    assert found.tolist() == [0, 0, 1, 2, 4]


def test_the_temperature_of_sharpened_logits_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    probabilities = calibration.softmax(logits)
    draws = rng.random((20_000, 1))
    labels = (draws > probabilities.cumsum(1)).sum(1)
    found = calibration.fit_temperature(4 * logits, labels)
    # The standard error of 1 / temperature is below .01.
    assert found == pytest.approx(4, rel=0.05)
    better = scores(4 * logits / found, labels)
    for other in (0.9 * found, 1.1 * found):
        assert better["nll"] < scores(4 * logits / other, labels)["nll"]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="`probabilities` must have"):
        calibration.reliability(np.ones((2, 3)), [0])
    with pytest.raises(ValueError, match="`logits` must have"):
        calibration.fit_temperature(np.ones((0, 3)), [])
