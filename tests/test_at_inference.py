"""Dropping at inference starts and ends with its context, in every model."""

import contextlib

import keras
import numpy as np
import pytest

from keras_dropblock import DropBlock2D
from keras_dropblock.layers import (
    Dropout,
    dropblock_at_inference,
    dropping_as_trained,
)
from saved_graphs import random_operations

X = np.ones((8, 6, 6, 16), "float32")


@pytest.fixture
def inner():
    inputs = keras.Input((6, 6, 16))
    return keras.Model(
        inputs, DropBlock2D(keep_prob=0.5, block_size=1, seed=1)(inputs)
    )


def around(inner):
    """A model that contains another one and a trainable identity layer.

    The learning rate is 0, so this layer stays the identity.
    """
    inputs = keras.Input((6, 6, 16))
    identity = keras.layers.Dense(16, kernel_initializer="identity")
    model = keras.Model(inputs, identity(inner(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def predicted(model):
    """Fraction of units that compiled `predict` drops."""
    return (model.predict(X, verbose=0) == 0).mean()


def evaluated(model):
    """Whether compiled `evaluate` drops: if so, it differs from the input."""
    return model.evaluate(X, X, verbose=0) > 0


def is_about(rate):
    # The standard error of 4,608 independent units is below .0074.
    return pytest.approx(rate, abs=5 * 0.0074)


def test_an_inner_model_compiled_inside_stops_with_the_context(inner):
    outer = around(inner)
    inner.compile(None, "mse")
    with dropblock_at_inference(outer, keep_prob=0.8):
        assert predicted(inner) == is_about(0.2) and evaluated(inner)
    assert predicted(inner) == 0 and not evaluated(inner)


def test_a_context_on_an_inner_model_reaches_compiled_outer_ones(inner):
    outer = around(inner)
    assert predicted(outer) == 0 and not evaluated(outer)
    with dropblock_at_inference(inner, keep_prob=0.8):
        assert predicted(outer) == is_about(0.2) and evaluated(outer)
    assert predicted(outer) == 0 and not evaluated(outer)


def test_a_model_built_inside_stops_with_the_context(inner):
    with dropblock_at_inference(inner, keep_prob=0.8):
        outer = around(inner)
        assert predicted(outer) == is_about(0.2)
    assert predicted(outer) == 0


@pytest.mark.tensorflow_only  # `predict_step` is another function elsewhere
def test_a_subclassed_model_is_reached_whatever_its_step_calls(inner):
    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def predict_step(self, data):
            return self.inner(data, training=False)

    model = Wrapped()
    assert predicted(model) == 0
    with dropblock_at_inference(inner, keep_prob=0.8):
        assert predicted(model) == is_about(0.2)
    assert predicted(model) == 0


def test_the_outer_context_applies_again_after_a_nested_one(inner):
    outer = around(inner)
    with dropblock_at_inference(outer, keep_prob=0.8):
        assert predicted(outer) == is_about(0.2)
        with dropblock_at_inference(inner, keep_prob=0.3):
            assert predicted(outer) == is_about(0.7)
            with dropping_as_trained(outer):
                assert predicted(inner) == is_about(0.5)
            assert predicted(inner) == is_about(0.7)
        assert predicted(outer) == is_about(0.2)
        assert predicted(inner) == is_about(0.2)
    assert predicted(outer) == predicted(inner) == 0


def test_a_context_affects_only_its_own_layers(inner):
    inputs = keras.Input((6, 6, 16))
    other = DropBlock2D(keep_prob=0.5, block_size=1, seed=2)(inputs)
    both = keras.Model(inputs, [inner(inputs), other])

    def fractions():
        return [(y == 0).mean() for y in both.predict(X, verbose=0)]

    with dropblock_at_inference(both, keep_prob=0.8):
        with dropblock_at_inference(inner, keep_prob=1.0):
            assert fractions() == [0, is_about(0.2)]
        assert fractions() == [is_about(0.2)] * 2
    assert fractions() == [0, 0]


@pytest.mark.parametrize("first_out", ["first in", "last in"])
def test_contexts_may_end_in_any_order(inner, first_out):
    rates = {"first in": 0.2, "last in": 0.7}
    contexts = {}
    for name, rate in rates.items():
        contexts[name] = contextlib.ExitStack()
        contexts[name].enter_context(
            dropblock_at_inference(inner, keep_prob=1 - rate)
        )
        assert predicted(inner) == is_about(rate)
    contexts.pop(first_out).close()
    ((remaining, context),) = contexts.items()
    assert predicted(inner) == is_about(rates[remaining])
    context.close()
    assert predicted(inner) == 0


def test_an_exception_inside_ends_the_context(inner):
    outer = around(inner)
    for context in (
        dropblock_at_inference(outer, keep_prob=0.8),
        dropping_as_trained(inner),
    ):
        with pytest.raises(KeyError):
            with context:
                assert predicted(outer) > 0 and evaluated(outer)
                raise KeyError
        assert predicted(outer) == predicted(inner) == 0
        assert not evaluated(outer)


def test_a_layer_that_training_calls_at_inference_stops_too(inner):
    """For example a frozen base, called with `training=False` in training."""

    class FrozenBase(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x, training=False)

    inputs = keras.Input((6, 6, 16))
    model = around(keras.Model(inputs, FrozenBase()(inputs)))

    def loss():
        return model.fit(X, X, batch_size=8, verbose=0).history["loss"][0]

    assert loss() == 0
    with dropblock_at_inference(inner, keep_prob=0.8):
        assert loss() > 0.1  # 0.2 of the units are wrong by 1
    assert loss() == 0


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="runs eagerly: no traces"
)
def test_what_was_traced_before_is_used_again_after(inner):
    """A callback may use the context after each epoch without recompiling."""
    traces, inside = [], []

    @keras.saving.register_keras_serializable("test_at_inference")
    class Traced(keras.layers.Layer):
        def call(self, x, training=False):
            traces.append(training)
            return x

    inputs = keras.Input((6, 6, 16))
    outer = around(keras.Model(inputs, Traced()(inner(inputs))))

    class Robustness(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            inside.append(traces.count(True))
            with dropblock_at_inference(self.model, keep_prob=0.8):
                assert predicted(self.model) == is_about(0.2)

    assert predicted(outer) == 0
    outer.fit(
        X,
        X,
        epochs=3,
        validation_data=(X, X),
        callbacks=[Robustness()],
        verbose=0,
    )
    assert inside[0] > 0 and set(inside) == {traces.count(True)}
    before = len(traces)
    assert predicted(outer) == 0 and not evaluated(outer)
    assert len(traces) == before


def test_a_context_may_begin_and_end_inside_of_evaluate(inner):
    outer = around(inner)
    stack = contextlib.ExitStack()

    class Noise(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            context = dropblock_at_inference(self.model, keep_prob=0.8)
            stack.enter_context(context)

        def on_test_end(self, logs=None):
            stack.close()

    noisy = outer.evaluate(X, X, callbacks=[Noise()], verbose=0)
    assert noisy > 0.1
    assert not evaluated(outer)


def test_a_model_recompiled_inside_keeps_its_new_metrics(inner):
    outer = around(inner)
    assert not evaluated(outer)
    with dropblock_at_inference(outer, keep_prob=0.8):
        outer.compile(outer.optimizer, "mse", metrics=["mae"])
        assert len(outer.evaluate(X, X, verbose=0)) == 2
    assert outer.evaluate(X, X, verbose=0) == [0, 0]


def test_a_copy_made_inside_does_not_drop(inner):
    with dropblock_at_inference(inner, keep_prob=0.8):
        copy = keras.models.clone_model(inner)
        assert predicted(copy) == 0
    assert predicted(copy) == 0


def test_dropout_follows_the_same_rules():
    inputs = keras.Input((6, 6, 16))
    inner = keras.Model(inputs, Dropout(0.3, seed=1)(inputs))
    outer = around(inner)
    assert predicted(outer) == 0
    with dropping_as_trained(inner):
        with dropping_as_trained(outer):
            assert predicted(inner) == is_about(0.3)
        assert predicted(outer) == is_about(0.3)
    assert predicted(outer) == predicted(inner) == 0


@pytest.mark.tensorflow_only
def test_export_after_a_context_holds_no_random_operation(inner, tmp_path):
    import tensorflow as tf

    outer = around(inner)
    with dropblock_at_inference(outer, keep_prob=0.8):
        assert predicted(outer) > 0
    outer.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert not random_operations(loaded.signatures["serving_default"])
