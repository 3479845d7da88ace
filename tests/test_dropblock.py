"""DropBlock layers: laws, rates, errors, then compiled and replicated."""

import copy
import itertools
import pickle

import h5py
import keras
import numpy as np
import pytest

from keras_dropblock import DropBlock1D, DropBlock2D, DropBlock3D
from keras_dropblock.layers import (
    Dropout,
    SpatialDropout2D,
    StochasticDepth,
    dropblock_at_inference,
    dropblock_layers,
    dropping_as_trained,
)
from saved_graphs import random_operations


def ones(*shape, dtype="float32"):
    return keras.ops.ones(shape, dtype=dtype)


def array(x):
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


def drop(layer, *shape, **kwargs):
    return array(layer(ones(*shape, **kwargs), training=True))


def kept(y):
    return (y != 0).astype(int)


# --- laws


@pytest.mark.parametrize(
    "layer, shape",
    [
        (DropBlock1D(keep_prob=0.7, block_size=3, seed=1), (4, 9, 2)),
        (DropBlock2D(keep_prob=0.7, block_size=3, seed=1), (4, 8, 6, 2)),
        (DropBlock2D(keep_prob=0.7, block_size=4, seed=1), (4, 8, 6, 2)),
        (DropBlock2D(keep_prob=0.7, block_size=9, seed=1), (4, 8, 6, 2)),
        (DropBlock3D(keep_prob=0.7, block_size=2, seed=1), (2, 4, 5, 6, 3)),
    ],
)
def test_each_unit_is_zero_or_scaled_alike(layer, shape):
    y = drop(layer, *shape)
    assert set(np.unique(y)) == {0.0, y.max()}
    # The number of kept units times the scale is the size of the tensor.
    assert y.sum() == pytest.approx(y.size, rel=1e-5)


def assert_whole_blocks(dropped, block_size):
    """Assert that dropped blocks cover exactly the dropped units of a map."""
    covered = np.zeros_like(dropped)
    for i in range(dropped.shape[0] - block_size + 1):
        for j in range(dropped.shape[1] - block_size + 1):
            block = np.s_[i : i + block_size, j : j + block_size]
            if dropped[block].all():
                covered[block] = True
    assert (covered == dropped).all()


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7])
def test_every_dropped_unit_lies_in_a_whole_block(block_size):
    y = drop(
        DropBlock2D(keep_prob=0.8, block_size=block_size, seed=3), 8, 11, 7, 4
    )
    assert (y == 0).any()
    for sample, channel in itertools.product(range(8), range(4)):
        assert_whole_blocks(y[sample, :, :, channel] == 0, block_size)


def test_keep_prob_1_is_the_identity_to_the_bit():
    x = keras.random.normal((4, 9, 7, 5), seed=1)
    y = DropBlock2D(keep_prob=1.0, block_size=3)(x, training=True)
    assert np.array_equal(array(x), array(y))


def test_inference_returns_its_input_and_draws_nothing():
    layer = DropBlock2D(keep_prob=0.5, block_size=3, seed=1)
    x = keras.random.normal((2, 8, 8, 3), seed=1)
    before = array(layer.seed_generator.state)
    for _ in range(2):
        assert np.array_equal(array(layer(x, training=False)), array(x))
        assert np.array_equal(array(layer(x)), array(x))
    assert np.array_equal(before, array(layer.seed_generator.state))


@pytest.mark.parametrize("side", range(1, 10))
@pytest.mark.parametrize("block_size", [1, 2, 7, 9])
@pytest.mark.parametrize("keep_prob", [0.0, 0.5])
def test_small_maps_give_finite_numbers(side, block_size, keep_prob):
    layer = DropBlock2D(keep_prob=keep_prob, block_size=block_size, seed=side)
    for shape in ((1, side, side, 1), (2, side, 10 - side, 3)):
        y = drop(layer, *shape)
        assert np.isfinite(y).all()
        assert y.sum() == 0 or y.sum() == pytest.approx(y.size, rel=1e-5)


def test_keep_prob_0_on_a_covered_map_is_zeros():
    for dtype in ("float32", "float16", "bfloat16"):
        layer = DropBlock2D(keep_prob=0.0, block_size=7, dtype=dtype)
        assert (drop(layer, 2, 5, 3, 4, dtype=dtype) == 0).all()


def test_per_channel_false_shares_one_mask_among_the_channels():
    shared = kept(
        drop(
            DropBlock2D(keep_prob=0.7, block_size=3, per_channel=False, seed=1),
            8,
            9,
            9,
            5,
        )
    )
    assert (shared == shared[..., :1]).all()
    own = kept(
        drop(DropBlock2D(keep_prob=0.7, block_size=3, seed=1), 8, 9, 9, 5)
    )
    assert not (own == own[..., :1]).all()


def test_scale_per_sample_makes_samples_independent_of_their_batch():
    y = drop(
        DropBlock2D(keep_prob=0.7, block_size=3, scale_per_sample=True, seed=1),
        8,
        9,
        9,
        2,
    )
    assert np.allclose(y.mean((1, 2, 3)), 1.0, rtol=1e-5)
    whole = drop(DropBlock2D(keep_prob=0.7, block_size=3, seed=1), 8, 9, 9, 2)
    assert not np.allclose(whole.mean((1, 2, 3)), 1.0, rtol=1e-3)
    assert (kept(y) == kept(whole)).all()


@pytest.mark.parametrize("block_size", [2, 3])
def test_channels_first_drops_whole_blocks_of_each_channel(block_size):
    layer = DropBlock2D(
        keep_prob=0.7,
        block_size=block_size,
        data_format="channels_first",
        seed=1,
    )
    y = drop(layer, 6, 5, 11, 8)  # 5 channels, 11 x 8 maps
    assert not (kept(y) == kept(y)[:, :1]).all()  # channels differ
    for sample, channel in itertools.product(range(6), range(5)):
        assert_whole_blocks(y[sample, channel] == 0, block_size)
    shared = DropBlock2D(
        keep_prob=0.7,
        block_size=3,
        data_format="channels_first",
        per_channel=False,
        seed=1,
    )
    y = kept(drop(shared, 6, 5, 11, 8))
    assert (y == y[:, :1]).all() and not (y == y[:1]).all()
    maps = drop(
        DropBlock2D(
            keep_prob=0.9, block_size=3, data_format="channels_first", seed=2
        ),
        32,
        64,
        8,
        8,
    )
    maps = (maps == 0).mean((2, 3))
    expected = expected_drop_profile(8, 3, 0.9).mean()
    assert abs(maps.mean() - expected) < 5 * maps.std() / np.sqrt(maps.size)


# --- randomness


def test_the_same_seed_gives_the_same_sequence():
    first, second = (
        DropBlock2D(keep_prob=0.7, block_size=3, seed=5),
        DropBlock2D(keep_prob=0.7, block_size=3, seed=5),
    )
    for _ in range(3):
        assert np.array_equal(drop(first, 4, 9, 9, 3), drop(second, 4, 9, 9, 3))


def test_calls_seeds_samples_and_channels_differ():
    layer = DropBlock2D(keep_prob=0.7, block_size=3, seed=5)
    a, b = kept(drop(layer, 4, 9, 9, 3)), kept(drop(layer, 4, 9, 9, 3))
    other = kept(
        drop(DropBlock2D(keep_prob=0.7, block_size=3, seed=6), 4, 9, 9, 3)
    )
    assert (a != b).any() and (a != other).any()
    assert (a[0] != a[1]).any() and (a[..., 0] != a[..., 1]).any()


def test_samples_channels_and_calls_are_uncorrelated():
    layer = DropBlock2D(keep_prob=0.7, block_size=3, seed=7)
    rates = np.stack([drop(layer, 64, 9, 9, 64) == 0 for _ in range(2)])
    rates = rates.mean((2, 3))  # call, sample, channel: a fraction dropped
    rates = (rates - rates.mean()) / rates.std()
    pairs = {
        "calls": (rates[0], rates[1]),
        "samples": (rates[:, :-1], rates[:, 1:]),
        "channels": (rates[..., :-1], rates[..., 1:]),
    }
    for a, b in pairs.values():
        # The correlation of n independent pairs has standard error 1/sqrt(n).
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size)


# --- the exact rate. A unit is dropped unless none of the n positions whose
# block covers it has a seed. The probability is 1 - (1 - gamma)^n.


def expected_drop_profile(size, block_size, keep_prob):
    block = min(block_size, size)
    gamma = (1 - keep_prob) * size**2 / block**2 / (size - block + 1) ** 2
    reach = [
        sum(start <= i < start + block for start in range(size - block + 1))
        for i in range(size)
    ]
    return 1 - (1 - gamma) ** np.outer(reach, reach)


# size, block, then the expected fraction for keep_prob .9, .75 and .975.
RATES = [
    (7, 7, (0.1000, 0.2500, 0.0250)),
    (14, 7, (0.0929, 0.2095, 0.0245)),
    (56, 7, (0.0946, 0.2182, 0.0247)),
    (32, 7, (0.0941, 0.2155, 0.0246)),
    (16, 7, (0.0931, 0.2100, 0.0245)),
    (16, 5, (0.0940, 0.2147, 0.0246)),
    (16, 3, (0.0952, 0.2211, 0.0247)),
    (8, 7, (0.0961, 0.2262, 0.0248)),
    (8, 5, (0.0939, 0.2145, 0.0246)),
    (8, 3, (0.0947, 0.2188, 0.0247)),
    (21, 11, (0.0925, 0.2072, 0.0245)),
    (11, 11, (0.1000, 0.2500, 0.0250)),
]


@pytest.mark.parametrize("size, block_size, table", RATES)
def test_the_fraction_dropped_is_the_exact_expectation(size, block_size, table):
    for keep_prob, rounded in zip((0.9, 0.75, 0.975), table, strict=True):
        expected = expected_drop_profile(size, block_size, keep_prob).mean()
        assert expected == pytest.approx(rounded, abs=6e-5)
        y = drop(
            DropBlock2D(keep_prob=keep_prob, block_size=block_size, seed=1),
            32,
            size,
            size,
            64,
        )
        maps = (y == 0).mean((1, 2)).ravel()  # independent, so:
        error = maps.std() / np.sqrt(maps.size)
        assert abs(maps.mean() - expected) < 5 * error


@pytest.mark.parametrize("size, block_size", [(14, 7), (9, 4), (8, 7)])
def test_corners_are_dropped_rarely_and_the_center_often(size, block_size):
    profile = expected_drop_profile(size, block_size, keep_prob=0.9)
    if (size, block_size) == (14, 7):
        assert profile[0, 0] == pytest.approx(0.006, abs=5e-4)
        assert profile[7, 7] == pytest.approx(0.26, abs=5e-3)
    maps = (
        drop(
            DropBlock2D(keep_prob=0.9, block_size=block_size, seed=2),
            64,
            size,
            size,
            256,
        )
        == 0
    )
    error = np.sqrt(profile * (1 - profile) / (64 * 256))
    # 6 standard errors, because 196 units are compared.
    assert (abs(maps.mean((0, 3)) - profile) < 6 * error).all()


def test_the_expectation_of_each_channel_is_preserved():
    # Rescaling makes the mean of the batch exact. The mean of a channel is
    # preserved only on average.
    y = drop(DropBlock2D(keep_prob=0.8, block_size=3, seed=3), 256, 10, 6, 32)
    means = y.mean((1, 2)).reshape(-1)
    assert abs(means.mean() - 1) < 1e-5
    by_channel = y.mean((0, 1, 2))
    error = means.std() / np.sqrt(256)
    assert (abs(by_channel - 1) < 5 * error).all()


@pytest.mark.parametrize("shape", [(20, 10), (10, 20)])
def test_every_region_of_a_rectangular_map_is_dropped(shape):
    # If the region of seeds depended on the width only, no seed would be in
    # rows 10 to 19.
    y = (
        drop(DropBlock2D(keep_prob=0.9, block_size=3, seed=4), 64, *shape, 64)
        == 0
    )
    assert y[:, :10].mean() > 0.07 and y[:, -10:].mean() > 0.07
    assert y[:, :, :10].mean() > 0.07 and y[:, :, -10:].mean() > 0.07
    assert 0.09 < y.mean() < 0.10


def test_ranks_1_and_3_drop_at_their_rates():
    # 1-D, 16 units, blocks of 4: gamma = .1 * 16 / (4 * 13). n seeds reach a
    # unit.
    gamma = 0.1 * 16 / (4 * 13)
    reach = [min(i + 1, 4, 16 - i) for i in range(16)]
    expected = np.mean([1 - (1 - gamma) ** n for n in reach])
    maps = (
        drop(DropBlock1D(keep_prob=0.9, block_size=4, seed=1), 128, 16, 128)
        == 0
    ).mean(1)
    assert abs(maps.mean() - expected) < 5 * maps.std() / np.sqrt(maps.size)
    maps = (
        drop(DropBlock3D(keep_prob=0.9, block_size=2, seed=1), 64, 4, 4, 4, 64)
        == 0
    )
    gamma = 0.1 * 64 / (8 * 27)
    reach = [1, 2, 2, 1]
    n = np.einsum("i,j,k->ijk", reach, reach, reach)
    maps = maps.mean((1, 2, 3))
    expected = np.mean(1 - (1 - gamma) ** n)
    assert abs(maps.mean() - expected) < 5 * maps.std() / np.sqrt(maps.size)


# --- precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_counts_in_float32(dtype):
    # 1.6 million units: a float16 sum overflows at 65,504.
    y = DropBlock2D(keep_prob=0.9, block_size=7, seed=1, dtype=dtype)(
        ones(32, 14, 14, 256, dtype=dtype), training=True
    )
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = array(y)
    exact = y.size / (y != 0).sum()
    assert y.max() == pytest.approx(exact, rel=2**-8)  # bfloat16 has 8 bits


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
def test_the_rate_is_exact_whatever_floatx_is(floatx):
    # Random numbers of 8 or 11 bits cannot be compared with a gamma of .003.
    keras.config.set_floatx(floatx)
    try:
        layer = DropBlock2D(keep_prob=0.9, block_size=7, seed=1)
        maps = drop(layer, 32, 32, 32, 64, dtype=floatx) == 0
    finally:
        keras.config.set_floatx("float32")
    maps = maps.mean((1, 2))
    error = maps.std() / np.sqrt(maps.size)
    assert abs(maps.mean() - 0.0941) < 5 * error


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_keep_keep_prob_exact(policy):
    keras.config.set_dtype_policy(policy)
    layer = DropBlock2D(keep_prob=0.9, block_size=3, seed=1)
    y = layer(ones(2, 8, 8, 4), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == policy[6:]
    assert layer.keep_prob == 0.9
    assert keras.backend.standardize_dtype(layer._keep_prob.dtype) == "float32"


# --- configuration, state and errors


@pytest.mark.parametrize("cls", [DropBlock1D, DropBlock2D, DropBlock3D])
def test_config_round_trip(cls):
    layer = cls(
        keep_prob=0.8,
        block_size=4,
        per_channel=False,
        scale_per_sample=True,
        data_format="channels_first",
        seed=3,
        name="drop",
    )
    layer.keep_prob = 0.95
    config = keras.saving.serialize_keras_object(layer)
    other = keras.saving.deserialize_keras_object(config)
    assert type(other) is cls
    assert other.get_config() == layer.get_config()
    assert other.keep_prob == other.final_keep_prob == 0.8
    assert config["registered_name"] == f"keras_dropblock>{cls.__name__}"


def test_keep_prob_can_be_set_and_read():
    layer = DropBlock2D(keep_prob=0.9, block_size=3)
    assert layer.keep_prob == layer.final_keep_prob == 0.9
    layer.keep_prob = 0.95
    assert layer.keep_prob == 0.95 and layer.final_keep_prob == 0.9


def through_pickle(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, through_pickle]
)
def test_copies_and_pickles_keep_the_current_keep_prob(duplicate):
    layer = DropBlock2D(keep_prob=0.5, block_size=3)
    layer.keep_prob = 0.8
    inputs = keras.Input((8, 8, 2))
    inner = keras.Sequential([inputs, DropBlock2D(keep_prob=0.5, block_size=3)])
    model = keras.Model(
        inputs, DropBlock2D(keep_prob=0.5, block_size=3)(inner(inputs))
    )
    for x, keep_prob in zip(dropblock_layers(model), (0.6, 0.7), strict=True):
        x.keep_prob = keep_prob

    assert duplicate(layer).keep_prob == 0.8
    copied = dropblock_layers(duplicate(model))
    assert [x.keep_prob for x in copied] == [0.6, 0.7]
    assert [x.final_keep_prob for x in copied] == [0.5, 0.5]
    copied[0].keep_prob = 0.9
    assert dropblock_layers(model)[0].keep_prob == 0.6


def test_files_hold_no_keep_prob(tmp_path):
    model = small_model(shape=(8, 8, 2))
    layer = model.layers[-1]
    layer.keep_prob = 0.7
    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    layer.keep_prob = 0.6
    for name in ("model.weights.h5", "model.keras"):
        model.load_weights(tmp_path / name)
        assert layer.keep_prob == 0.6
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].keep_prob == 0.5
    # There is also nothing else that a different Keras version could read.
    with h5py.File(tmp_path / "model.weights.h5") as file:
        names = []
        file.visit(names.append)
    assert not [name for name in names if "keep_prob" in name]


@pytest.mark.parametrize(
    "keep_prob", [-0.1, 1.1, float("nan"), "0.9", None, True]
)
def test_keep_prob_outside_the_unit_interval_is_refused(keep_prob):
    message = r"`keep_prob` must be .*Received: keep_prob="
    with pytest.raises(ValueError, match=message):
        DropBlock2D(keep_prob=keep_prob, block_size=7)
    with pytest.raises(ValueError, match=message):
        DropBlock2D(keep_prob=0.9, block_size=7).keep_prob = keep_prob


@pytest.mark.parametrize("block_size", [0, -1, 2.0, "7", None, True, (3, 3)])
def test_block_size_must_be_a_positive_integer(block_size):
    message = r"`block_size` must be .*Received: block_size="
    with pytest.raises(ValueError, match=message):
        DropBlock2D(keep_prob=0.9, block_size=block_size)


def test_positional_arguments_are_refused_with_the_call_that_was_meant():
    meant = r"Did you mean DropBlock2D\(keep_prob=0.9, block_size=7\)\?"
    with pytest.raises(TypeError, match=meant):
        DropBlock2D(0.1, 7)  # a rate to drop, as in other libraries
    with pytest.raises(TypeError, match="keyword arguments only") as error:
        DropBlock1D(7)
    assert "Did you mean" not in str(error.value)


def test_an_unknown_data_format_is_refused():
    with pytest.raises(ValueError, match="`data_format` must .*'NHWC'"):
        DropBlock2D(keep_prob=0.9, block_size=7, data_format="NHWC")


@pytest.mark.parametrize(
    "layer, shape",
    [
        (DropBlock1D(keep_prob=0.9, block_size=3), (2, 8, 8, 3)),
        (DropBlock2D(keep_prob=0.9, block_size=3), (2, 8, 3)),
        (DropBlock3D(keep_prob=0.9, block_size=3), (2, 8, 8, 3)),
    ],
)
def test_inputs_of_the_wrong_rank_are_refused(layer, shape):
    with pytest.raises(ValueError, match="`inputs` of DropBlock.D must have"):
        layer(ones(*shape), training=True)


# --- inside models, compiled


def small_model(**kwargs):
    inputs = keras.Input(kwargs.pop("shape", (None, None, 2)))
    outputs = DropBlock2D(keep_prob=0.5, block_size=3, seed=1, **kwargs)(inputs)
    return keras.Model(inputs, outputs)


def test_inference_override_drops_only_inside_its_context():
    model = small_model()
    x = np.ones((64, 12, 12, 2), "float32")
    assert (model.predict(x, verbose=0) == 1).all()
    with dropblock_at_inference(model, keep_prob=0.8, block_size=1):
        fraction = (model.predict(x, verbose=0) == 0).mean()
        # 18,432 independent units with p = .2: standard error .003
        assert abs(fraction - 0.2) < 5 * 0.003
    with dropblock_at_inference(model, keep_prob=1.0):
        assert (model.predict(x, verbose=0) == 1).all()
    assert (model.predict(x, verbose=0) == 1).all()


def test_inference_override_keeps_the_ratio_of_the_rates():
    inputs = keras.Input((8, 8, 64))
    quarter, full = (
        DropBlock2D(keep_prob=0.975, block_size=1, seed=1),
        DropBlock2D(keep_prob=0.9, block_size=1, seed=2),
    )
    model = keras.Model(inputs, [quarter(inputs), full(inputs)])
    with dropblock_at_inference(model, keep_prob=0.6):
        a, b = model.predict(np.ones((32, 8, 8, 64), "float32"), verbose=0)
    # 131,072 units: standard errors .0008 and .0014
    assert abs((a == 0).mean() - 0.1) < 5 * 0.0008
    assert abs((b == 0).mean() - 0.4) < 5 * 0.0014


def test_inference_override_needs_a_dropblock_layer():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with pytest.raises(ValueError, match="no DropBlock layer"):
        with dropblock_at_inference(model, keep_prob=0.9):
            pass


def test_dropping_as_trained_uses_the_rate_of_each_layer_and_ends():
    inputs = keras.Input((8, 8, 64))
    layers = [
        DropBlock2D(keep_prob=0.9, block_size=1, seed=1),
        Dropout(0.3, seed=2),
        SpatialDropout2D(0.5, seed=3),
        StochasticDepth(0.5, seed=4),
        keras.layers.BatchNormalization(epsilon=1e-9),
    ]
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    x = np.ones((32, 8, 8, 64), "float32")
    with dropping_as_trained(model):
        first, second = (model.predict(x, verbose=0) for _ in range(2))
    rates = [(y == 0).mean() for y in first]
    # Five standard errors for 131,072 units, or 2,048 maps of SpatialDropout.
    assert abs(rates[0] - 0.1) < 5 * 0.0008
    assert abs(rates[1] - 0.3) < 5 * 0.0013
    assert abs(rates[2] - 0.5) < 5 * 0.011
    assert not np.array_equal(first[0], second[0])
    # Stochastic depth is off, and batch statistics are not used.
    assert (first[3] == 1).all() and np.allclose(first[4], 1)
    assert all(np.allclose(y, 1) for y in model.predict(x, verbose=0))


def test_dropping_as_trained_needs_something_that_drops():
    inputs = keras.Input((8, 8, 2))
    x = Dropout(0.0)(DropBlock2D(keep_prob=1.0, block_size=3)(inputs))
    model = keras.Model(inputs, StochasticDepth(0.5)(x))
    with pytest.raises(ValueError, match="that drops anything"):
        with dropping_as_trained(model):
            pass


def test_layers_are_found_at_any_depth():
    inner = small_model(shape=(8, 8, 2))
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(
        inputs, inner(DropBlock2D(keep_prob=0.9, block_size=3)(inputs))
    )
    assert [x.final_keep_prob for x in dropblock_layers(model)] == [0.9, 0.5]


@pytest.mark.parametrize("shape", [(20, 10, 2), (6, 6, 2), (None, None, 2)])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_runs_compiled_on_any_map(shape, jit_compile):
    """DropBlock2D of KerasCV 0.9.0 fails here.

    It fails in graph mode. In eager mode it drops nothing in the lower half
    of 20 x 10 maps, and gives NaN for 6 x 6 maps with blocks of 7.
    """
    backend = keras.backend.backend()
    if backend == "torch" and jit_compile and shape != (20, 10, 2):
        pytest.skip("torch.compile takes half a minute for each shape")
    size = [side or 12 for side in shape[:2]]
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = DropBlock2D(keep_prob=0.8, block_size=7, seed=1)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    x = np.random.default_rng(0).normal(size=(8, *size, 2)).astype("float32")
    y = np.zeros((8, 2), "float32")
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
def test_setting_keep_prob_reaches_a_compiled_function(jit_compile):
    import tensorflow as tf

    layer = DropBlock2D(keep_prob=0.5, block_size=3, seed=1)
    function = tf.function(
        lambda x: layer(x, training=True), jit_compile=jit_compile
    )
    x = ones(8, 9, 9, 4)
    assert (array(function(x)) == 0).any()
    layer.keep_prob = 1.0
    assert (array(function(x)) == 1).all()
    layer.keep_prob = 0.0
    assert (array(function(x)) == 0).mean() > 0.5


@pytest.mark.tensorflow_only
def test_graph_and_xla_draw_the_same_masks_as_eager():
    import tensorflow as tf

    results = []
    for jit_compile in (None, False, True):
        layer = DropBlock2D(keep_prob=0.7, block_size=3, seed=9)
        call = lambda x, layer=layer: layer(x, training=True)  # noqa: E731
        if jit_compile is not None:
            call = tf.function(call, jit_compile=jit_compile)
        results.append([kept(array(call(ones(4, 9, 9, 3)))) for _ in range(3)])
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("side", [3, 7, 8, 20])
def test_maps_of_unknown_size_follow_the_same_laws(side, jit_compile):
    import tensorflow as tf

    layer = DropBlock2D(keep_prob=0.7, block_size=7, seed=9)
    static = array(
        DropBlock2D(keep_prob=0.7, block_size=7, seed=9)(
            ones(64, side, 9, 8), training=True
        )
    )
    function = tf.function(
        lambda x: layer(x, training=True),
        input_signature=[tf.TensorSpec((None, None, None, None))],
        jit_compile=jit_compile,
    )
    dynamic = array(function(ones(64, side, 9, 8)))
    assert np.array_equal(kept(static), kept(dynamic))
    assert np.allclose(static, dynamic, rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="torch's own select"
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("options", [{}, {"per_channel": False}])
@pytest.mark.parametrize("side", [3, 9])  # a block as large as the map, or not
def test_on_torch_the_gradient_is_the_mask(side, options, dtype):
    import torch

    layer = DropBlock2D(
        keep_prob=0.5, block_size=3, seed=1, dtype=dtype, **options
    )
    x = torch.ones(8, side, 12, 2, dtype=getattr(torch, dtype))
    x.requires_grad_()
    y = layer(x, training=True)
    upstream = torch.full_like(y, 2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(y, x, upstream, create_graph=True)
    assert 0 < (y == 0).sum() < y.numel()
    assert torch.equal(gradient, 2 * y)
    (second,) = torch.autograd.grad(gradient.sum(), upstream)
    assert torch.equal(second, y)


def test_a_dropped_unit_is_zero_even_where_it_was_infinite():
    x = np.full((2, 9, 12, 2), np.inf, "float32")
    y = array(
        DropBlock2D(keep_prob=0.5, block_size=3, seed=1)(x, training=True)
    )
    assert set(np.unique(y)) == {0.0, np.inf}


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_is_the_mask_and_the_second_gradient_is_zero(
    dtype, jit_compile
):
    import tensorflow as tf

    layer = DropBlock2D(keep_prob=0.7, block_size=3, seed=1, dtype=dtype)

    @tf.function(jit_compile=jit_compile)
    def gradients(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = layer(x, training=True)
            slope = inner.gradient(y, x)
        return y, slope, outer.gradient(slope, x, unconnected_gradients="zero")

    y, slope, curvature = map(array, gradients(ones(4, 9, 9, 3, dtype=dtype)))
    assert (slope == y).all() and (y == 0).any()
    assert (curvature == 0).all()


@pytest.mark.tensorflow_only
def test_an_exported_graph_holds_no_random_operation(tmp_path):
    import tensorflow as tf

    model = small_model(shape=(8, 8, 2))
    model.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert not random_operations(loaded.signatures["serving_default"])
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype("float32")
    assert np.array_equal(loaded.serve(x), x)


@pytest.mark.tensorflow_only
def test_replicas_drop_different_units_and_repeat_by_seed(two_replicas):
    import tensorflow as tf

    def masks_of_two_steps():
        with two_replicas.scope():
            layer = DropBlock2D(keep_prob=0.7, block_size=3, seed=1)

        @tf.function
        def step():
            return two_replicas.run(
                lambda: layer(ones(4, 9, 9, 3), training=True)
            )

        return np.array(
            [
                [
                    kept(array(y))
                    for y in two_replicas.experimental_local_results(step())
                ]
                for _ in range(2)
            ]
        )

    masks = masks_of_two_steps()
    assert (masks[0, 0] != masks[0, 1]).any()  # replicas
    assert (masks[0] != masks[1]).any()  # steps
    alone = DropBlock2D(keep_prob=0.7, block_size=3, seed=1)
    assert (masks[0, 0] == kept(drop(alone, 4, 9, 9, 3))).all()
    assert np.array_equal(masks, masks_of_two_steps())
