"""Batch normalization by TensorFlow's kernel gives the results of Keras."""

import inspect

import keras
import numpy as np
import pytest

from keras_dropblock.layers.normalization import BatchNormalization

RNG = np.random.default_rng(0)
X = RNG.normal(1, 2, size=(8, 7, 5, 6)).astype("float32")
UPSTREAM = RNG.normal(size=X.shape).astype("float32")


def built(cls, shape=X.shape, **kwargs):
    layer = cls(momentum=0.9, epsilon=1e-5, **kwargs)
    layer.build(shape)
    rng = np.random.default_rng(1)
    # Different values for all weights. Variances must be positive.
    layer.set_weights([0.5 + rng.random(w.shape) for w in layer.get_weights()])
    return layer


def pair(**kwargs):
    return [
        built(cls, **kwargs)
        for cls in (keras.layers.BatchNormalization, BatchNormalization)
    ]


def array(x):
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_gradients_and_statistics_are_those_of_keras(
    training, jit_compile
):
    import tensorflow as tf

    results = []
    for layer in pair():

        @tf.function(jit_compile=jit_compile)
        def step(layer=layer):
            x = tf.constant(X)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
            variables = [layer.gamma.value, layer.beta.value]
            return y, *tape.gradient(y, [x, *variables], UPSTREAM)

        results.append([*step(), *layer.get_weights()])
    for theirs, ours in zip(*results, strict=True):
        # Sums over 280 positions in float32.
        assert np.allclose(theirs, ours, rtol=1e-4, atol=1e-4)


needs_renorm = pytest.mark.skipif(
    "renorm"
    not in inspect.signature(keras.layers.BatchNormalization).parameters,
    reason="Keras has batch renormalization from 3.14 on",
)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "kwargs, shape",
    [
        ({"axis": 1}, (8, 7, 5, 6)),
        ({"center": False}, (8, 7, 5, 6)),
        ({"scale": False}, (8, 7, 5, 6)),
        pytest.param({"renorm": True}, (8, 7, 5, 6), marks=needs_renorm),
        ({}, (8, 6)),
        ({}, (8, 7, 6)),
        ({}, (1, 1, 1, 6)),  # a variance of one value
        ({"dtype": "mixed_bfloat16"}, (8, 7, 5, 6)),
        ({"dtype": "mixed_float16"}, (8, 7, 5, 6)),
        pytest.param(
            {"dtype": "float64"},
            (8, 7, 5, 6),
            marks=pytest.mark.tensorflow_only,
        ),
    ],
)
def test_every_other_case_equals_keras(kwargs, shape, training):
    x = RNG.normal(1, 2, size=shape).astype("float32")
    theirs, ours = pair(shape=shape, **kwargs)
    expected, got = theirs(x, training=training), ours(x, training=training)
    assert expected.dtype == got.dtype
    # bfloat16 has eight bits of precision, and Keras rounds at other places
    # than the kernel.
    tolerance = 0.05 if "mixed" in kwargs.get("dtype", "") else 1e-4
    assert np.allclose(
        array(expected), array(got), rtol=tolerance, atol=tolerance
    )
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-2, atol=1e-4)


def test_a_mask_gives_the_same_result_as_in_keras():
    x, mask = X[:, :, 0], np.arange(7)[None] < np.arange(8)[:, None]
    theirs, ours = pair(shape=x.shape)
    expected = array(theirs(x, training=True, mask=mask))
    assert np.allclose(expected, array(ours(x, training=True, mask=mask)))


def test_a_frozen_layer_uses_its_moving_statistics():
    layer = built(BatchNormalization)
    layer.trainable = False
    assert np.allclose(
        array(layer(X, training=True)), array(layer(X, training=False))
    )


def test_weights_and_config_are_those_of_keras():
    theirs, ours = pair()
    assert [w.path.split("/")[-1] for w in theirs.weights] == [
        w.path.split("/")[-1] for w in ours.weights
    ]
    config = keras.saving.serialize_keras_object(ours)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is BatchNormalization
    assert copy.get_config() == ours.get_config()


@pytest.mark.tensorflow_only
def test_sizes_may_be_unknown_until_the_graph_runs():
    import tensorflow as tf

    theirs, ours = pair()
    function = tf.function(
        lambda x: ours(x, training=True),
        input_signature=[tf.TensorSpec((None, None, None, 6))],
    )
    expected = array(theirs(X, training=True))
    assert np.allclose(expected, function(X), rtol=1e-4, atol=1e-4)
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-5)
