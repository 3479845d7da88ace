"""Tests that every network in `goldens.py` must pass."""

import keras
import numpy as np
import pytest

from goldens import DEFAULT_SUITE, GOLDENS
from keras_dropblock.layers import dropblock_layers

# `make test-backends` runs all of these tests, including the slow ones.
pytestmark = pytest.mark.conformance


def over(names):
    return pytest.mark.parametrize(
        "build, shape, parameters, layers",
        [
            pytest.param(
                *GOLDENS[name],
                id=name,
                marks=[] if name in DEFAULT_SUITE else [pytest.mark.slow],
            )
            for name in names
        ],
    )


golden = over(GOLDENS)
# Whether to compile: JAX always does. torch never does, because torch.compile
# takes two minutes for the smallest network here.
# XLA compilation takes longer on TensorFlow than all other tests here.
JIT_COMPILE = {
    "tensorflow": [False, pytest.param(True, marks=pytest.mark.slow)],
    "jax": [True],
    "torch": [False],
}


def images(shape, n=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *shape)).astype("float32")


def randomize(model):
    """Random weights and batch statistics, so that a lost one is noticed."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            w * (1 + 0.1 * rng.normal(size=w.shape))  # kernels keep their scale
            if w.ndim > 1
            else w + 0.1 * abs(rng.normal(size=w.shape))
            for w in model.get_weights()
        ]
    )
    for layer in dropblock_layers(model):
        layer.keep_prob = layer.final_keep_prob


def assert_same(a, b, x, atol=1e-5):
    a, b = a.predict(x, verbose=0), b.predict(x, verbose=0)
    assert np.allclose(a, b, rtol=1e-5, atol=atol * abs(a).max())


@golden
def test_size(build, shape, parameters, layers):
    model = build(input_shape=shape)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert (count, len(model.layers)) == (parameters, layers)


@golden
def test_keras_file_round_trip(build, shape, parameters, layers, tmp_path):
    model = build(input_shape=shape)
    randomize(model)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert_same(model, copy, images(shape))
    assert [x.get_config() for x in dropblock_layers(copy)] == [
        x.get_config() for x in dropblock_layers(model)
    ]


@golden
def test_weights_round_trip(build, shape, parameters, layers, tmp_path):
    model, copy = build(input_shape=shape), build(input_shape=shape)
    randomize(model)
    model.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    assert_same(model, copy, images(shape))


@golden
def test_config_round_trip(build, shape, parameters, layers):
    model = build(input_shape=shape)
    copy = keras.Model.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    copy.set_weights(model.get_weights())
    assert_same(model, copy, images(shape))


@pytest.mark.tensorflow_only
@golden
def test_saved_model_round_trip(build, shape, parameters, layers, tmp_path):
    import tensorflow as tf

    model = build(input_shape=shape)
    randomize(model)
    model.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    x = images(shape)
    a, b = model.predict(x, verbose=0), loaded.serve(x).numpy()
    assert np.allclose(a, b, rtol=1e-5, atol=1e-5 * abs(a).max())


@golden
def test_bfloat16_keeps_variables_and_logits_in_float32(
    build, shape, parameters, layers
):
    check_mixed_precision(build, shape, "mixed_bfloat16")


@over(DEFAULT_SUITE)
def test_float16_keeps_variables_and_logits_in_float32(
    build, shape, parameters, layers
):
    check_mixed_precision(build, shape, "mixed_float16")


def check_mixed_precision(build, shape, policy):
    keras.config.set_dtype_policy(policy)
    model = build(input_shape=shape)
    standard = keras.backend.standardize_dtype
    kinds = {standard(v.dtype) for v in model.weights}
    assert kinds == {"float32"}
    logits = model(images(shape), training=True)
    assert standard(logits.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()
    assert standard(model.get_layer("group2").output.dtype) == policy[6:]


@golden
@pytest.mark.parametrize("jit_compile", JIT_COMPILE[keras.backend.backend()])
def test_steps_of_training(build, shape, parameters, layers, jit_compile):
    model = build(input_shape=shape)
    train_two_steps(model, shape, jit_compile)


@pytest.mark.tensorflow_only
@golden
def test_steps_on_two_replicas(build, shape, parameters, layers, two_replicas):
    with two_replicas.scope():
        model = build(input_shape=shape)
        train_two_steps(model, shape, jit_compile=False)


def train_two_steps(model, shape, jit_compile):
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    before = [np.array(w) for w in model.get_weights()]
    labels = np.arange(4) % model.output.shape[-1]
    # Two steps: with a gamma of 0, the layers before it get no gradient first.
    history = model.fit(
        images(shape), labels, batch_size=4, epochs=2, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(before, model.get_weights(), strict=True)
    ]
    still = [v.path for v, m in zip(model.weights, moved, strict=True) if not m]
    assert all(path.endswith("keep_prob") for path in still), still


@golden
def test_features_by_name(build, shape, parameters, layers):
    model = build(input_shape=shape)
    names = [f"group{i}" for i in (1, 2, 3)]
    if isinstance(model.layers[4], keras.layers.ZeroPadding2D):
        names.append("group4")  # an ImageNet network
    pyramid = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    features = pyramid.predict(images(shape), verbose=0)
    stem = 4 if len(names) == 4 else 1  # ImageNet's stem halves twice
    for i, feature in enumerate(features):
        stride = stem * 2**i
        assert feature.shape[1:3] == tuple(-(-s // stride) for s in shape[:2])
