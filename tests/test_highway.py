"""Highway networks: the equation of a block, sizes, gates."""

import keras
import numpy as np
import pytest

from keras_dropblock.analysis import (
    gates,
    measure_gates,
    score_without_blocks,
)
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import HighwayBlock, branches_removed
from keras_dropblock.models import WRN, HighwayNet


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(shape, **options):
    """A block, and a batch of its inputs."""
    block = HighwayBlock(shape[-1], **options)
    x = normal(3, *shape)
    block(x)
    return block, x


def test_the_output_mixes_transform_and_input_by_the_gate():
    block, x = built((6, 5, 4))
    transformed = np.maximum(block.convs[0](x), 0)
    gate = 1 / (1 + np.exp(-np.asarray(block.gate(x))))
    assert 0 < gate.min() < gate.mean() < 0.5
    expected = gate * transformed + (1 - gate) * x
    assert np.allclose(block(x), expected, atol=1e-6)


def test_a_closed_gate_copies_and_an_open_gate_transforms():
    for bias, expected in ((-100.0, 0), (100.0, 1)):
        block, x = built((6, 5, 4), gate_bias=bias)
        both = x, np.maximum(block.convs[0](x), 0)
        assert np.allclose(block(x), both[expected], atol=1e-6)


def test_the_initial_gate_is_the_sigmoid_of_its_bias():
    block, x = built((6, 5, 4), gate_bias=-2.0)
    assert np.allclose(block.transform_gate(0 * x), 1 / (1 + np.e**2))


@pytest.mark.parametrize("filters, strides", [(4, 2), (6, 1)])
def test_a_block_that_changes_the_shape_is_a_plain_layer(filters, strides):
    x = normal(2, 7, 6, 4)
    block = HighwayBlock(filters, strides=strides, keep_prob=0.9)
    y = block(x)
    assert y.shape == (2, -(-7 // strides), -(-6 // strides), filters)
    assert block.gate is None and block.dropblock_shortcut is None
    assert np.allclose(y, np.maximum(block.convs[0](x), 0))


def test_a_removed_block_copies_its_input_and_a_plain_one_is_refused():
    block, x = built((6, 5, 4))
    before = np.asarray(block(x))
    with branches_removed([block]):
        assert np.array_equal(block(x), x)
    assert np.array_equal(block(x), before)
    plain = HighwayBlock(4, strides=2, name="plain")
    plain(x)
    with pytest.raises(ValueError, match="has no shortcut.*HighwayBlock plain"):
        branches_removed([block, plain])


def test_scores_without_each_block_that_has_a_gate():
    keras.utils.set_random_seed(0)
    model = HighwayNet(10, input_shape=(8, 8, 3), gate_bias=1.0)
    x, labels = normal(16, 8, 8, 3), np.arange(16) % 10
    rows = score_without_blocks(model, x, labels)
    gated = ["group1_block1", "group1_block2", "group2_block2"]
    gated += ["group2_block3", "group3_block2", "group3_block3"]
    assert [row["removed"] for row in rows] == ["", *gated]
    assert not any(row["has_projection"] for row in rows)
    y = x
    for layer in model.layers:
        if layer.name not in ("image", "group2_block3"):
            y = layer(y)
    assert rows[4]["nll"] == pytest.approx(scores(y, labels)["nll"], rel=1e-4)
    assert len({row["nll"] for row in rows}) == 7


def test_stochastic_depth_drops_to_a_copy_of_the_input():
    block = HighwayBlock(4, survival_prob=0.5)
    x = normal(64, 3, 3, 4)
    y = np.asarray(block(x, training=True))
    copied = [np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 16 < sum(copied) < 48  # 4 standard deviations about 32
    kept = x + 2 * (np.asarray(block(x)) - x)
    for i, same in enumerate(copied):
        assert same or np.allclose(y[i], kept[i], atol=1e-5)


def test_dropblock_has_two_places_with_masks_of_their_own():
    for bias, skip, drops in ((-50.0, True, True), (-50.0, False, False)):
        block, x = built(
            (8, 8, 2),
            gate_bias=bias,
            keep_prob=0.5,
            block_size=3,
            dropblock_skip=skip,
        )
        y = np.asarray(block(x, training=True))  # the carried x alone
        assert (y == 0).any() == drops
    block, x = built((8, 8, 2), gate_bias=50.0, keep_prob=0.5, block_size=3)
    transformed = np.maximum(block.convs[0](x), 0)
    y = np.asarray(block(x, training=True))  # the transform alone
    lost = (abs(y) < 1e-6) & (transformed > 0.1)
    assert 0.2 < lost.sum() / (transformed > 0.1).sum() < 0.8


def test_channels_first_gives_the_same():
    last, x = built((6, 5, 4))
    first = HighwayBlock(4, data_format="channels_first")
    moved = np.moveaxis(x, -1, 1)
    first(moved)
    first.set_weights(last.get_weights())
    y = np.moveaxis(np.asarray(first(moved)), 1, -1)
    assert np.allclose(y, last(x), atol=1e-5)


def test_parameters_by_hand():
    # depth 10 and width 1: two gated blocks in each group, with two convs
    # each, and a plain conv before groups 2 and 3.
    def conv(inputs, outputs):
        return (9 * inputs + 1) * outputs

    gated = sum(2 * 2 * conv(c, c) for c in (16, 32, 64))
    plain = conv(3, 16) + conv(16, 32) + conv(32, 64)
    assert HighwayNet(10).count_params() == gated + plain + 65 * 10


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((12,), "`depth` must be 3n \\+ 4.*Did you mean 10 or 13"),
        ((4,), "Did you mean 7 or 10"),
        ((10, 0.5), "`width` must be an integer >= 1"),
    ],
)
def test_sizes_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        HighwayNet(*arguments)


def test_dropout_has_no_place():
    with pytest.raises(ValueError, match="Use `keep_prob` or `survival_prob`"):
        HighwayNet(10, dropout=0.3)


def test_gates_are_read_from_a_network_and_drawn(tmp_path):
    model = HighwayNet(7, input_shape=(8, 12, 1), gate_bias=-1.0)
    x = normal(5, 8, 12, 1)
    block = model.get_layer("group2_block2")
    block.gate.kernel.assign(0 * block.gate.kernel)
    block.gate.bias.assign(np.linspace(-3, 3, 32))
    found = measure_gates(model, x, batch_size=2)
    assert {name: gate.shape for name, gate in found.items()} == {
        "group1_block1": (16,),
        "group2_block2": (32,),
        "group3_block2": (64,),
    }
    expected = 1 / (1 + np.exp(-np.linspace(-3, 3, 32)))
    assert np.allclose(found["group2_block2"], expected, atol=1e-6)
    gates.draw(found, found, tmp_path / "gates.png")
    assert (tmp_path / "gates.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="must have highway blocks"):
        measure_gates(WRN(10, 1), x)


def test_gates_have_one_scale_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = HighwayNet(7, input_shape=(8, 8, 1))
    found = measure_gates(model, normal(3, 8, 8, 1))
    assert all(0 < gate.mean() < 0.5 for gate in found.values())
