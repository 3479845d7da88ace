"""The pure functions of DropBlock: rates, blocks, scale."""

import itertools

import keras
import numpy as np
import pytest

from keras_dropblock.layers import masks


def grow(seeds, block_size, size):
    """Grow blocks of `block_size` from `seeds`; 1 marks a kept unit."""
    seeds = np.array(seeds, bool)
    axes = list(range(seeds.ndim))
    dropped = masks.grow_blocks(
        keras.ops.convert_to_tensor(seeds), block_size, axes, size
    )
    dropped = np.broadcast_to(keras.ops.convert_to_numpy(dropped), size)
    return (1 - dropped).tolist()


def test_a_seed_is_the_first_corner_of_its_block():
    # 5 x 4 map, blocks of 3 x 3: seeds can be at 3 x 2 positions.
    assert grow([[0, 0], [0, 1], [0, 0]], 3, (5, 4)) == [
        [1, 1, 1, 1],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 1],
    ]


def test_an_even_block_drops_an_even_square():
    assert grow([[1, 0, 0], [0, 0, 0], [0, 0, 1]], 2, (4, 4)) == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
    ]


def test_blocks_overlap_and_end_at_the_edges():
    assert grow([[1, 0, 0], [0, 1, 0], [0, 0, 0]], 3, (5, 5)) == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]


def test_a_block_of_one_drops_only_the_seeds():
    assert grow([[1, 0, 0], [0, 0, 1]], 1, (2, 3)) == [[0, 1, 1], [1, 1, 0]]


def test_a_block_larger_than_an_axis_covers_that_axis():
    # 2 x 5 map, blocks of 3: clamped to 2 x 3, so 1 x 3 positions.
    assert grow([[0, 0, 1]], 3, (2, 5)) == [[1, 1, 0, 0, 0]] * 2


@pytest.mark.parametrize("block_size", range(1, 9))
def test_growing_equals_marking_block_by_block(block_size):
    rng = np.random.default_rng(block_size)
    size = (9, 5, 7)
    block = masks.clamp_block(block_size, size)
    starts = tuple(f - b + 1 for f, b in zip(size, block, strict=True))
    seeds = rng.random(starts) < 0.05
    expected = np.ones(size, int)
    for corner in np.argwhere(seeds):
        expected[
            tuple(slice(c, c + b) for c, b in zip(corner, block, strict=True))
        ] = 0
    assert grow(seeds, block_size, size) == expected.tolist()


# gamma of the paper's equation 1 by hand: (1 - keep_prob) / block^2 *
# size^2 / (size - block + 1)^2.
@pytest.mark.parametrize(
    "size, block, gamma",
    [
        (7, 7, 0.1),
        (14, 7, 0.00625),  # 0.1 / 49 * 196 / 64
        (56, 7, 0.00256),
        (32, 7, 0.00309),
        (16, 7, 0.00522),
        (16, 5, 0.00711),
        (16, 3, 0.01451),
        (8, 7, 0.03265),
        (8, 5, 0.01600),
        (8, 3, 0.01975),
        (21, 11, 0.00301),
        (11, 11, 0.1),
        (6, 7, 0.1),  # clamped to 6 before gamma
    ],
)
def test_seed_rate_is_equation_1(size, block, gamma):
    blocks = masks.clamp_block(block, (size, size))
    assert masks.seed_rate(0.9, blocks, (size, size)) == pytest.approx(
        gamma, abs=5e-6
    )


def test_seed_rate_stays_in_the_unit_interval_for_every_small_map():
    for height, width, block in itertools.product(range(1, 10), repeat=3):
        shape = (height, width)
        blocks = masks.clamp_block(block, shape)
        for keep_prob in (0.0, 0.5, 0.9, 1.0):
            gamma = masks.seed_rate(keep_prob, blocks, shape)
            assert 0.0 <= gamma <= 1.0 - keep_prob + 1e-12


def test_rescaling_preserves_the_sum_of_ones():
    dropped = np.zeros((2, 4, 4, 3), bool)
    dropped[0, :2, :2, 0] = True  # 4 of 96 units
    y = masks.drop_and_rescale(keras.ops.ones((2, 4, 4, 3)), dropped)
    y = keras.ops.convert_to_numpy(y)
    assert y.sum() == pytest.approx(96, rel=1e-6)
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - 4 / 96))}


@pytest.mark.parametrize("units", [1, 511, 512, 513, 3 * 512 + 5])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_rescaling_counts_every_unit(units, rate):
    # On TensorFlow, whole groups of 512 units are counted together.
    dropped = np.random.default_rng(units).random((1, units, 1)) < rate
    rescale = masks.drop_and_rescale
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        any_size = [tf.TensorSpec([None] * 3, t) for t in ("float32", "bool")]
        rescale = tf.function(rescale, input_signature=any_size)
    y = rescale(keras.ops.ones(dropped.shape), dropped)
    kept = ~dropped
    expected = kept * np.float32(units / max(kept.sum(), 1))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(y), expected, rtol=1e-6
    )


def test_rescaling_each_sample_leaves_the_others_alone():
    dropped = np.zeros((2, 4, 4, 1), bool)
    dropped[0, :2] = True
    y = masks.drop_and_rescale(
        keras.ops.ones((2, 4, 4, 1)), dropped, axes=[1, 2, 3]
    )
    y = keras.ops.convert_to_numpy(y)
    assert y[0].max() == 2.0
    assert (y[1] == 1.0).all()


def output_and_gradient(dropped, x):
    """`drop_and_rescale` and the gradient of its sum, as float32 arrays."""

    def total(x):
        return keras.ops.sum(masks.drop_and_rescale(x, dropped))

    x = keras.ops.convert_to_tensor(x)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = total(x)
        gradient = tape.gradient(loss, x)
    elif backend == "jax":
        import jax

        gradient = jax.grad(total)(x)
    else:
        x.requires_grad_()
        total(x).backward()
        gradient = x.grad
        x = x.detach()
    y = masks.drop_and_rescale(x, dropped)
    assert y.shape == x.shape and y.dtype == x.dtype
    return tuple(
        keras.ops.convert_to_numpy(keras.ops.cast(z, "float32"))
        for z in (y, gradient)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("value", [1.0, np.inf])
def test_everything_dropped_is_zeros_and_so_is_the_gradient(dtype, value):
    x = keras.ops.full((2, 3, 5, 4), value, dtype=dtype)
    dropped = keras.ops.ones((2, 1, 1, 4), dtype="bool")
    y, gradient = output_and_gradient(dropped, x)
    assert (y == 0).all() and (gradient == 0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kept, scale", [(4, 2.0**14), (1, 2.0**15)])
def test_the_scale_of_a_few_kept_units_stays_finite(dtype, kept, scale):
    # 4 or 1 of 65,536 units are kept. A scale of 65,536 would overflow in
    # float16.
    x = keras.ops.ones((1, 64, 64, 16), dtype=dtype)
    dropped = np.ones((1, 64, 64, 16), bool)
    dropped[0, 5, :kept, 3] = False
    for found in output_and_gradient(keras.ops.convert_to_tensor(dropped), x):
        assert (found[~dropped] == scale).all()
        assert (found[dropped] == 0).all()
