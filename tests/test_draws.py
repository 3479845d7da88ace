"""Random booleans: both ways to draw them give the same distribution."""

import keras
import numpy as np
import pytest

from keras_dropblock.layers import draws

BOTH = pytest.mark.parametrize("draw", [draws.bernoulli, draws.rare_bernoulli])


def calls(draw, count, probability, times, seed=1):
    generator = keras.random.SeedGenerator(seed)
    return np.stack(
        [
            keras.ops.convert_to_numpy(draw((count,), probability, generator))
            for _ in range(times)
        ]
    )


@BOTH
@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5), (2, 0, 3)])
def test_any_shape_is_possible(draw, shape):
    y = draw(shape, 0.5, keras.random.SeedGenerator(1))
    assert tuple(y.shape) == shape
    assert keras.backend.standardize_dtype(y.dtype) == "bool"


@BOTH
def test_probabilities_0_and_1_are_certain(draw):
    assert not calls(draw, 5000, 0.0, times=3).any()
    assert calls(draw, 5000, 1.0, times=3).all()


# 1e-5 on 4 million positions has gaps that are cut: see `_mark_by_gaps`.
@BOTH
@pytest.mark.parametrize(
    "count, probability, times",
    [
        (4_000_000, 1e-5, 30),
        (4_000_000, 1e-4, 10),
        (1_000_000, 0.003, 5),
        (100_000, 0.1, 20),
        (5_000, 0.9, 200),  # five chunks of gaps each
    ],
)
def test_the_rate_is_exact(draw, count, probability, times):
    y = calls(draw, count, probability, times)
    error = np.sqrt(probability * (1 - probability) / y.size)
    assert abs(y.mean() - probability) < 5 * error
    # The rate does not depend on the position either.
    error *= 2
    for quarter in np.split(y, 4, axis=1):
        assert abs(quarter.mean() - probability) < 5 * error


@BOTH
@pytest.mark.parametrize("probability", [0.02, 0.6])
def test_positions_are_independent(draw, probability):
    count, times = 3000, 400
    y = calls(draw, count, probability, times)
    # The number of Trues is binomial, so check its variance too. The relative
    # standard error of an estimated variance is sqrt(2 / times).
    variance = count * probability * (1 - probability)
    ratio = y.sum(1).var(ddof=1) / variance
    assert abs(ratio - 1) < 5 * np.sqrt(2 / times)
    z = (y - probability) / np.sqrt(probability * (1 - probability))
    for lag in (1, 2, 7, 50):
        products = z[:, lag:] * z[:, :-lag]
        assert abs(products.mean()) < 5 / np.sqrt(products.size)
    assert abs((z[1:] * z[:-1]).mean()) < 5 / np.sqrt(z.size)


def test_gaps_are_geometric():
    y = calls(draws.rare_bernoulli, 2_000_000, 0.01, times=1)[0]
    gaps = np.diff(np.flatnonzero(y)) - 1
    for length in (0, 1, 10, 100, 400):
        expected = 0.99**length
        error = np.sqrt(expected * (1 - expected) / gaps.size)
        assert abs((gaps >= length).mean() - expected) <= 5 * error


@BOTH
def test_seeds_and_calls_differ_and_a_seed_repeats(draw):
    first = calls(draw, 4000, 0.1, times=3)
    assert np.array_equal(first, calls(draw, 4000, 0.1, times=3))
    assert (first[0] != first[1]).any() and (first[1] != first[2]).any()
    other = calls(draw, 4000, 0.1, times=3, seed=2)
    if keras.backend.backend() == "torch" and draw is draws.bernoulli:
        # On torch, Keras adds seed and call number: the second call of seed 1
        # is equal to the first call of seed 2.
        first, other = first[:1], other[:1]
    assert all((a != b).any() for a in first for b in other)


@pytest.mark.tensorflow_only
@BOTH
def test_eager_graph_and_xla_draw_alike(draw):
    import tensorflow as tf

    def marks(jit_compile):
        generator = keras.random.SeedGenerator(3)
        call = lambda: draw((300_000,), 0.02, generator)  # noqa: E731
        if jit_compile is not None:
            call = tf.function(call, jit_compile=jit_compile)
        return np.stack([call().numpy() for _ in range(5)])

    eager = marks(None)
    assert np.array_equal(eager, marks(False))
    assert np.array_equal(eager, marks(True))
