"""How well neighbors predict dropped units, and blocks that are removed."""

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.analysis.blocks import score_without_blocks
from keras_dropblock.analysis.redundancy import (
    draw_dropped,
    measure_redundancy,
    redundancy,
)
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import (
    PostActivationBlock,
    PreActivationBlock,
    StochasticDepth,
    branches_removed,
    dropping_as_trained,
)

NOISE = np.random.default_rng(0).normal(size=(80, 8, 12, 2))


def smooth(size):
    """Noise whose unit is the mean of size x size independent numbers."""
    views = np.lib.stride_tricks.sliding_window_view(
        np.random.default_rng(0).normal(size=(80, 15, 19, 2)),
        (size, size),
        axis=(1, 2),
    )
    return views.mean((-1, -2))[:, :8, :12]


def test_independent_units_cannot_be_predicted():
    dropped = draw_dropped(NOISE.shape, 0.8, 1, seed=1)
    # 1,500 tested units per channel and 25 coefficients that fit noise.
    assert redundancy(NOISE, dropped) == pytest.approx(0, abs=0.1)
    # With 8 images, they fit a third of the 77 units in the first half. This
    # says nothing about the second half.
    assert redundancy(NOISE[:8], dropped[:8]) < 0.05


def test_units_that_their_neighbors_determine_are_predicted():
    # Each row is a straight line, so a unit is the mean of the units on its
    # sides: away from the border, R squared is exactly 1.
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=(80, 8, 1, 2))
    starts = rng.normal(size=(80, 8, 1, 2))
    maps = starts + slopes * np.linspace(-1, 1, 12)[:, None]
    dropped = np.zeros(maps.shape, bool)
    dropped[:, 3, 5] = dropped[:, 5, 8] = True
    assert redundancy(maps, dropped, window=3) == pytest.approx(1)
    # If the units on its sides are dropped as well, other rows say nothing.
    dropped[:, 3, 4:7] = dropped[:, 5, 7:10] = True
    assert redundancy(maps, dropped, window=3) < 0.7


def test_dropblock_leaves_less_than_dropout():
    maps = smooth(4)
    found = [
        redundancy(maps, draw_dropped(maps.shape, 0.8, size, seed=1))
        for size in (1, 3, 7)
    ]
    assert found[0] > 0.7 and found[1] > found[2] + 0.1
    assert found[0] > found[1] + 0.1


def test_constant_channels_do_not_count():
    maps = np.concatenate([smooth(4), np.zeros((80, 8, 12, 1))], axis=-1)
    dropped = draw_dropped(maps.shape, 0.8, 1, seed=1)
    kept = redundancy(maps[..., :2], dropped[..., :2])
    assert redundancy(maps, dropped) == kept
    assert np.isnan(redundancy(maps[..., 2:], dropped[..., 2:]))


def test_what_cannot_be_measured_is_refused():
    dropped = np.zeros(NOISE.shape, bool)
    with pytest.raises(ValueError, match="`window` must be an odd int"):
        redundancy(NOISE, dropped, window=4)
    with pytest.raises(ValueError, match="must have the same shape"):
        redundancy(NOISE, dropped[:1])
    assert np.isnan(redundancy(NOISE, dropped))  # nothing is dropped
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`layers` must name the layers"):
        measure_redundancy(flat, np.ones((2, 4)))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.WRN(10, 1, num_classes=3, input_shape=(16, 24, 3))


IMAGES = np.random.default_rng(0).normal(size=(60, 16, 24, 3))


def test_each_group_has_a_row_for_each_method(network):
    rows = measure_redundancy(network, IMAGES, window=3, block_size=3)
    assert [(row["layer"], row["method"]) for row in rows] == [
        (f"group{i}", method)
        for i in (1, 2, 3)
        for method in ("Dropout", "DropBlock")
    ]
    assert [row["block_size"] for row in rows] == 3 * [1, 3]
    for row in rows:
        assert row["dropped"] == pytest.approx(0.1, abs=0.02)
        assert row["r2"] < 1


@pytest.mark.parametrize("kind", [PreActivationBlock, PostActivationBlock])
def test_a_block_without_its_branch_returns_its_shortcut(kind):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype("float32")
    block = kind(8)
    before = keras.ops.convert_to_numpy(block(x))
    with branches_removed([block]):
        y = keras.ops.convert_to_numpy(block(x))
    post = kind is PostActivationBlock
    assert np.array_equal(y, np.maximum(x, 0) if post else x)
    assert np.array_equal(keras.ops.convert_to_numpy(block(x)), before)


def test_a_removed_block_with_a_projection_keeps_it():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype("float32")
    block = PreActivationBlock(4, strides=2)
    block(x)
    activated = keras.ops.relu(block.norms[0](x))
    with branches_removed([block]):
        y = keras.ops.convert_to_numpy(block(x))
    expected = keras.ops.convert_to_numpy(block.shortcut(activated))
    assert np.allclose(y, expected, atol=1e-6)


def test_scores_without_a_block_are_those_of_the_shortcut(network):
    labels = np.arange(60) % 3
    rows = score_without_blocks(network, IMAGES, labels)
    names = [f"group{i}_block1" for i in (1, 2, 3)]
    assert [row["removed"] for row in rows] == ["", *names]
    assert [row["has_projection"] for row in rows] == [False, False, True, True]
    # The first block has no projection, so it returns its input.
    stem = network.get_layer("stem").output
    x = stem
    for layer in network.layers[3:]:
        x = layer(x)
    logits = keras.Model(network.input, x).predict(IMAGES, verbose=0)
    assert rows[1]["nll"] == pytest.approx(scores(logits, labels)["nll"], 1e-4)
    whole = scores(network.predict(IMAGES, verbose=0), labels)
    assert rows[0]["nll"] == pytest.approx(whole["nll"], 1e-4)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="must have residual blocks"):
        score_without_blocks(flat, np.ones((2, 4)), [0, 1])


def test_stochastic_depth_drops_at_inference_only_if_asked_to():
    inputs = keras.Input((1,))
    x = StochasticDepth(0.5, seed=1)(inputs)
    model = keras.Model(inputs, x)
    ones = np.ones((500, 1), "float32")

    def values():
        return {*keras.ops.convert_to_numpy(model(ones)).ravel().tolist()}

    assert values() == {1.0}
    with pytest.raises(ValueError, match="no DropBlock, Dropout or Spatial"):
        with dropping_as_trained(model):
            pass
    with dropping_as_trained(model, stochastic_depth=True):
        assert values() == {0.0, 2.0}
    assert values() == {1.0}
