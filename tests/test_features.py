"""Feature pyramids: levels by name and by stride."""

import keras
import numpy as np
import pytest

from keras_dropblock.models import WRN, PreActResNet, ResNet, features


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture(scope="module")
def resnet():
    return ResNet(18, 0.125, num_classes=3, input_shape=(64, 96, 3))


def test_the_levels_of_a_resnet_halve_from_4_to_32(resnet):
    names = ["group1", "group2", "group3", "group4"]
    pyramid = features(resnet, names)
    assert pyramid.strides == dict(zip(names, (4, 8, 16, 32), strict=True))
    maps = pyramid(images(2, 64, 96, 3))
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    assert shapes == {
        "group1": (2, 16, 24, 8),
        "group2": (2, 8, 12, 16),
        "group3": (2, 4, 6, 32),
        "group4": (2, 2, 3, 64),
    }


def test_maps_are_those_inside_the_model(resnet):
    x = images(2, 64, 96, 3)
    pooled = keras.ops.mean(features(resnet, ["group4"])(x)["group4"], (1, 2))
    logits = resnet.get_layer("logits")(pooled)
    assert np.allclose(logits, resnet(x), atol=1e-5)


def test_a_stride_selects_the_last_group_with_it():
    wrn = WRN(10, 1, input_shape=(None, None, 3))
    pyramid = features(wrn, (1, 2, 4))
    assert pyramid.strides == {"stride1": 1, "stride2": 2, "stride4": 4}
    by_name = features(wrn, ("group1", "group2", "group3"))
    x = images(1, 13, 10, 3)  # neither side is divisible by 4
    for a, b in zip(pyramid(x).values(), by_name(x).values(), strict=True):
        assert np.array_equal(a, b)
    assert features(PreActResNet(8), [4]).strides == {"stride4": 4}


def test_a_stride_of_another_network_selects_the_end_of_a_block():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="stem")(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    y = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(y)
    x = keras.layers.ZeroPadding2D(1, name="pad")(x)
    skip = keras.layers.MaxPooling2D(2, name="skip")(y)
    x = keras.layers.Conv2D(4, 3, 2, name="down")(x)
    x = keras.layers.Add(name="sum2")([x, skip])
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    pyramid = features(model, (2, 4))
    layers = [x._keras_history.operation.name for x in pyramid.outputs]
    assert layers == ["sum", "sum2"]


def test_layers_that_other_models_call_too_are_read_in_this_one(resnet):
    first, second = keras.Input((8, 8, 2)), keras.Input((8, 8, 2))
    conv = keras.layers.Conv2D(2, 3, strides=2, name="conv")
    models = [keras.Model(x, conv(x)) for x in (first, second)]
    for model in models:
        assert features(model, ["conv"]).inputs == model.inputs


def test_sides_may_have_different_strides():
    inputs = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(4, 3, strides=(1, 3), name="wide")(inputs)
    assert features(keras.Model(inputs, x), ["wide"]).strides == {
        "wide": (1, 3)
    }


def test_channels_first_has_the_same_strides():
    keras.config.set_image_data_format("channels_first")
    model = ResNet(18, 0.125, input_shape=(3, 64, 32))
    assert features(model, [16]).strides == {"stride16": 16}


def test_a_pyramid_is_saved_with_levels_and_strides(resnet, tmp_path):
    pyramid = features(resnet, ("group2", 32))
    pyramid.save(tmp_path / "pyramid.keras")
    copy = keras.saving.load_model(tmp_path / "pyramid.keras")
    assert copy.strides == {"group2": 8, "stride32": 32}
    x = images(1, 64, 96, 3)
    for name, value in pyramid(x).items():
        assert np.allclose(copy(x)[name], value, atol=1e-6)


@pytest.mark.parametrize(
    "levels, message",
    [
        (["group5"], "no layer 'group5'. Did you mean group"),
        (["logits"], "must be a feature map.*'logits'"),
        ([64], "strides of the network: 4, 8, 16, 32. Received: stride 64"),
        ([], "at least one"),
    ],
)
def test_levels_that_do_not_exist(resnet, levels, message):
    with pytest.raises(ValueError, match=message):
        features(resnet, levels)


@pytest.mark.parametrize("levels", ["group2", [2.0], [True], [None]])
def test_levels_of_the_wrong_type(resnet, levels):
    with pytest.raises(TypeError, match="`levels` must be a list"):
        features(resnet, levels)


def test_layers_of_an_inner_model_are_pointed_out(resnet):
    inputs = keras.Input((64, 96, 3))
    outer = keras.Model(inputs, resnet(inputs))
    with pytest.raises(ValueError, match=r"get_layer\('resnet_18_0p125'\)"):
        features(outer, ["group2"])


def test_only_functional_models_of_images():
    with pytest.raises(TypeError, match="functional"):
        features(keras.layers.Dense(1), ["x"])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with pytest.raises(ValueError, match="one input, a batch of images"):
        features(model, ["x"])
