"""Dropout and SpatialDropout2D behave like Keras's layers."""

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.layers import Dropout, SpatialDropout2D


def array(x):
    return keras.ops.convert_to_numpy(x)


def dropped(layer, shape):
    """Mask of the dropped units; checks that the others are scaled."""
    y = array(layer(np.ones(shape, "float32"), training=True))
    assert y.shape == shape
    scaled = np.float32(1 / (1 - layer.rate))
    assert set(np.unique(y)) == {0, scaled}
    return y == 0


@pytest.mark.parametrize(
    "noise_shape, shared_axes",
    [
        (None, ()),
        ((40, 1, 50), (1,)),
        ((None, 1, None), (1,)),  # None: the size of the input
        ([None, 1, 1], (1, 2)),
        ((1, 30, 50), (0,)),
        ((30, 50), (0,)),  # broadcasts from the right, as in NumPy
    ],
)
def test_noise_shape_says_which_units_share_one_draw(noise_shape, shared_axes):
    layer = Dropout(0.3, noise_shape=noise_shape, seed=1)
    y = dropped(layer, (40, 30, 50))
    for axis in range(3):
        first = np.take(y, [0], axis)
        assert (y == first).all() == (axis in shared_axes)
    draws = y[tuple(slice(1 if i in shared_axes else None) for i in range(3))]
    error = np.sqrt(0.3 * 0.7 / draws.size)
    assert abs(draws.mean() - 0.3) < 5 * error


def test_noise_shape_works_with_an_unknown_batch_size():
    inputs = keras.Input((5, 64))
    layer = Dropout(0.5, noise_shape=(None, 1, None), seed=1)
    model = keras.Model(inputs, layer(inputs))
    model.compile(None, "mse")
    y = array(model(np.ones((3, 5, 64), "float32"), training=True))
    assert (y == y[:, :1]).all() and (y == 0).any()
    assert not (y == y[:1]).all()


@pytest.mark.parametrize("noise_shape", [(2, 4, 5), (3, 1, 1), (1, 2, 4, 1)])
def test_a_noise_shape_that_does_not_match_the_inputs_is_refused(noise_shape):
    """On TensorFlow, Keras's layer would return an output of larger shape."""
    layer = Dropout(0.5, noise_shape=noise_shape)
    message = r"`noise_shape` must have .*Received: noise_shape=\("
    with pytest.raises(ValueError, match=message):
        layer(np.ones((2, 4, 1), "float32"), training=True)


@pytest.mark.parametrize(
    "layer",
    [
        Dropout(1.0),
        Dropout(1, noise_shape=(None, 1, 1, 1)),
        SpatialDropout2D(1.0),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_rate_of_1_gives_zeros(layer, dtype):
    x = np.full((2, 3, 4, 5), np.inf, dtype)
    y = layer(x, training=True)
    assert y.shape == x.shape and (array(y) == 0).all()
    assert np.array_equal(array(layer(x)), x)  # at inference


def test_a_rate_of_0_is_the_identity():
    x = np.full((2, 3, 4, 5), 7, "float32")
    for layer in (Dropout(0.0), SpatialDropout2D(0)):
        assert np.array_equal(array(layer(x, training=True)), x)


@pytest.mark.parametrize(
    "layer",
    [
        Dropout(0.3, noise_shape=(None, 1, 7), seed=4, name="drop"),
        Dropout(1.0),
        SpatialDropout2D(0.3, data_format="channels_first", seed=4),
        SpatialDropout2D(1.0),
    ],
)
def test_layers_survive_their_config(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert copy.noise_shape == layer.noise_shape


def test_noise_shape_survives_a_keras_file(tmp_path):
    inputs = keras.Input((5, 64))
    layer = Dropout(0.5, noise_shape=(None, 1, None), seed=1)
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    y = array(copy(np.ones((3, 5, 64), "float32"), training=True))
    assert (y == y[:, :1]).all() and (y == 0).any()


@pytest.mark.parametrize(
    "option", ["dropout", "spatial_dropout", "shortcut_dropout"]
)
def test_networks_take_rates_from_0_to_1(option):
    model = models.WRN(10, 1, input_shape=(8, 8, 3), **{option: 1.0})
    y = array(model(np.ones((2, 8, 8, 3), "float32"), training=True))
    assert np.isfinite(y).all()
    message = rf"`{option}` must be in \[0, 1\].*Received: {option}="
    for rate in (-0.1, 1.1, float("nan"), "0.3", True):
        with pytest.raises(ValueError, match=message):
            models.WRN(10, 1, **{option: rate})
