"""DropBlock in any functional model."""

import keras
import numpy as np
import pytest

from hub_backbone import keras_hub_backbone
from keras_dropblock import KeepProbScheduler
from keras_dropblock.layers import (
    DropBlock1D,
    DropBlock2D,
    SpatialDropout2D,
    StochasticDepth,
    dropblock_layers,
)
from keras_dropblock.models import (
    WRN,
    HighwayNet,
    insert_dropblock,
    insert_layer,
    last_stages,
)

DROP = {"keep_prob": 0.7, "block_size": 2}


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def small(name="small"):
    """A network with one residual block, 2 stages and 2 logits."""
    layers = keras.layers
    inputs = keras.Input((8, 12, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    y = layers.Conv2D(4, 3, padding="same", name="conv2")(x)
    y = layers.BatchNormalization(name="bn2")(y)
    x = layers.ReLU(name="relu2")(layers.Add(name="sum")([x, y]))
    x = layers.Conv2D(6, 3, 2, padding="same", name="conv3")(x)
    x = layers.Activation("relu", name="relu3")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(2, name="logits")(x), name=name)


def nested():
    """A model with `small` and a Sequential model inside."""
    inputs = keras.Input((8, 12, 3), name="photo")
    features = keras.Model(*_cut(small("inside"), "relu3"), name="inside")
    head = keras.Sequential(
        [
            keras.Input((4, 6, 6)),
            keras.layers.Conv2D(3, 1, name="conv"),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name="head",
    )
    return keras.Model(inputs, head(features(inputs)), name="outside")


def _cut(model, name):
    return model.input, model.get_layer(name).output


def with_random_statistics(model):
    rng = np.random.default_rng(1)
    model.set_weights(
        [w + 0.3 * rng.random(w.shape) for w in model.get_weights()]
    )
    return model


def check_equal_and_interchangeable(base, model, x, folder):
    """Equal outputs to the bit; each loads the other's weights file."""
    before = base.predict(x, verbose=0)
    assert np.array_equal(model.predict(x, verbose=0), before)
    base.save_weights(folder / "base.weights.h5")
    model.save_weights(folder / "model.weights.h5")
    model.set_weights([w * 0 for w in model.get_weights()])
    model.load_weights(folder / "base.weights.h5")
    assert np.array_equal(model.predict(x, verbose=0), before)
    base.set_weights([w * 0 for w in base.get_weights()])
    base.load_weights(folder / "model.weights.h5")
    assert np.array_equal(base.predict(x, verbose=0), before)
    # In training, DropBlock is on.
    trained = model(x, training=True)
    assert not np.allclose(trained, base(x, training=True), rtol=1e-3)


def names(model):
    return [layer.name for layer in dropblock_layers(model)]


def test_the_copy_is_equal_and_interchangeable_and_trains(tmp_path):
    base = with_random_statistics(small())
    model = insert_dropblock(base, ["relu1", "bn2"], **DROP)
    assert names(model) == ["relu1_dropblock", "bn2_dropblock"]
    assert not dropblock_layers(base)
    x = images(4, 8, 12, 3)
    check_equal_and_interchangeable(base, model, x, tmp_path)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 2)), verbose=0, callbacks=[KeepProbScheduler()])
    assert [x.keep_prob for x in dropblock_layers(model)] == [0.7, 0.7]


def test_with_a_seed_each_place_drops_other_units():
    inputs = keras.Input((16, 16, 4))
    x = keras.layers.Activation("linear", name="a")(inputs)
    base = keras.Model(inputs, [x, keras.layers.Identity(name="b")(inputs)])

    def dropped():
        model = insert_dropblock(base, ["a", "b"], seed=3, **DROP)
        outputs = model(np.ones((1, 16, 16, 4), "float32"), training=True)
        return [keras.ops.convert_to_numpy(x) == 0 for x in outputs]

    a, b = dropped()
    assert (a != b).any()
    assert [x.tolist() for x in dropped()] == [a.tolist(), b.tolist()]


def test_the_last_stages_of_a_highway_network_are_its_blocks():
    base = HighwayNet(13, 1)
    model = insert_dropblock(base, last_stages(1), **DROP)
    last = [layer.name for layer in base.layers if "group3_" in layer.name]
    assert names(model) == [f"{name}_dropblock" for name in last]


def test_the_copy_has_weights_of_its_own():
    base = small()
    model = insert_dropblock(base, "relu2", **DROP)
    kernel = base.get_layer("conv1").kernel
    before = np.array(kernel)
    model.get_layer("conv1").kernel.assign(before + 1)
    assert np.array_equal(kernel, before)
    keras.Model(model.input, model.get_layer("relu2").output)  # connected


def test_dropblock_follows_its_layer_and_nothing_else():
    model = insert_dropblock(small(), ["relu1"], **DROP)
    after = model.get_layer("relu1_dropblock")
    assert after.input is model.get_layer("relu1").output
    assert model.get_layer("conv2").input is after.output
    assert model.get_layer("sum").input[0] is after.output
    assert (after.final_keep_prob, after.block_size) == (0.7, 2)


def test_models_inside_the_model_are_copied_too(tmp_path):
    base = with_random_statistics(nested())
    model = insert_dropblock(base, ["inside/relu1", "conv"], **DROP)
    assert [x.name for x in dropblock_layers(model)] == [
        "relu1_dropblock",
        "conv_dropblock",
    ]
    assert isinstance(model.get_layer("head"), keras.Sequential)
    x = images(2, 8, 12, 3)
    check_equal_and_interchangeable(base, model, x, tmp_path)


def test_the_copy_is_saved_with_dropblock(tmp_path):
    model = insert_dropblock(with_random_statistics(nested()), "relu.", **DROP)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert sorted(names(copy)) == [f"relu{i}_dropblock" for i in (1, 2, 3)]
    x = images(2, 8, 12, 3)
    assert np.array_equal(
        copy.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.parametrize(
    "where, expected",
    [
        (["conv1", "conv3"], ["conv1", "conv3"]),
        ("conv[12]", ["conv1", "conv2"]),
        (lambda x: isinstance(x, keras.layers.Add), ["sum"]),
        (last_stages(1), ["relu3"]),
        # Between a conv and DropBlock are its norm and activation, no sum.
        (last_stages(2), ["relu1", "bn2", "relu3"]),
    ],
)
def test_where(where, expected):
    model = insert_dropblock(small(), where, **DROP)
    assert names(model) == [f"{name}_dropblock" for name in expected]


def test_where_in_a_wide_resnet_and_twice():
    base = WRN(10, 1, input_shape=(16, 16, 3))
    model = insert_dropblock(base, last_stages(2), **DROP)
    model = insert_dropblock(model, "group2_block1", **DROP)
    assert sorted(names(model)) == [
        "group2_block1_dropblock",
        "group2_block1_dropblock_2",
        "group3_block1_dropblock",
    ]


def test_frozen_layers_stay_frozen():
    base = nested()
    base.get_layer("inside").get_layer("bn1").trainable = False
    base.get_layer("head").trainable = False
    model = insert_dropblock(base, "relu1", **DROP)
    assert len(model.trainable_weights) == len(base.trainable_weights)
    assert not model.get_layer("inside").get_layer("bn1").trainable
    assert not model.get_layer("head").trainable


def test_a_sequence_gets_dropblock_1d_and_a_sequential_model_works():
    base = keras.Sequential(
        [
            keras.Input((10, 2)),
            keras.layers.Conv1D(3, 3, name="conv"),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model = insert_dropblock(base, "conv", **DROP)
    assert isinstance(model.get_layer("conv_dropblock"), DropBlock1D)
    x = images(2, 10, 2)
    assert np.array_equal(base(x), model(x))


def test_a_layer_that_is_called_twice_keeps_one_dropblock():
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, name="conv")
    base = keras.Model(inputs, conv(conv(inputs)))
    model = insert_dropblock(base, "conv", **DROP)
    assert names(model) == ["conv_dropblock"]
    assert len(model.weights) == len(base.weights) + 1  # keep_prob
    x = images(1, 8, 8, 3)
    assert np.array_equal(base(x), model(x))


def test_other_layers_by_the_same_function():
    base = with_random_statistics(small())
    x = images(2, 8, 12, 3)
    for layer in (SpatialDropout2D(0.5), StochasticDepth(0.5)):
        model = insert_layer(base, ["bn2"], layer)
        name = f"bn2_{type(layer).__name__.lower()}"
        assert type(model.get_layer(name)) is type(layer)
        assert np.array_equal(model(x), base(x))
    with pytest.raises(TypeError, match="an instance of it"):
        insert_layer(base, ["bn2"], SpatialDropout2D)


def test_mixed_precision_is_that_of_the_layer():
    keras.config.set_dtype_policy("mixed_bfloat16")
    base = small()
    keras.config.set_dtype_policy("float32")
    model = insert_dropblock(base, "relu1", **DROP)
    layer = model.get_layer("relu1_dropblock")
    assert layer.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    "where, message",
    [
        (["conv9"], "name 'conv9'. Did you mean conv"),
        ("relu", "whole name.*Did you mean relu"),
        ("conv[", "regular expression.*conv"),
        ([], "chooses none of the 11 layers, which are conv1"),
        (lambda layer: False, "chooses none"),
        ("pool|logits", r"feature map.*pool \(None, 6\), logits"),
        (last_stages(3), r"at most 2.*\[1, 2\]. Received: 3"),
    ],
)
def test_where_that_does_not_fit(where, message):
    with pytest.raises(ValueError, match=message):
        insert_dropblock(small(), where, **DROP)


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="`keep_prob`"):
        insert_dropblock(small(), "conv1", keep_prob=7, block_size=2)
    with pytest.raises(TypeError, match="`where` must be a list of names"):
        insert_dropblock(small(), 2, **DROP)
    with pytest.raises(ValueError, match="`count`"):
        last_stages(0)
    with pytest.raises(TypeError, match="`model` must be a functional"):
        insert_dropblock(keras.layers.Dense(2), "x", **DROP)


def test_a_backbone_and_a_classifier_of_keras_hub(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub_backbone()
    model = insert_dropblock(backbone, last_stages(1), **DROP)
    assert names(model)
    x = images(2, 64, 96, 3)
    check_equal_and_interchangeable(backbone, model, x, tmp_path)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert names(copy) == names(model)
    assert np.array_equal(copy(x), model(x))
    classifier = keras_hub.models.ResNetImageClassifier(
        backbone=backbone, num_classes=3
    )
    inside = insert_dropblock(classifier, last_stages(1), **DROP)
    assert len(names(inside)) == len(names(model))
    assert np.array_equal(inside(x), classifier(x))


APPLICATIONS = {
    "ResNet50": (last_stages(2), 29),
    "EfficientNetV2B0": ("block6.*_add", 7),
    "MobileNetV3Small": (last_stages(1), 9),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications(name, tmp_path):
    where, count = APPLICATIONS[name]
    base = getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), classes=4
    )
    model = insert_dropblock(base, where, **DROP)
    assert len(dropblock_layers(model)) == count
    assert all(isinstance(x, DropBlock2D) for x in dropblock_layers(model))
    x = 255 * abs(images(2, 64, 64, 3))
    check_equal_and_interchangeable(base, model, x, tmp_path)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert names(copy) == names(model)
    assert np.array_equal(copy(x), model(x))
