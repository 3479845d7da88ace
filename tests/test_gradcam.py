"""Grad-CAM on networks of several kinds."""

import keras
import numpy as np
import pytest

from hub_backbone import keras_hub_backbone
from keras_dropblock import models
from keras_dropblock.analysis import interception
from keras_dropblock.analysis.cam import class_activation_maps
from keras_dropblock.analysis.gradcam import grad_cam

IMAGES = np.random.default_rng(0).normal(size=(3, 16, 24, 3)).astype("float32")
CLASSES = np.array([0, 2, 1])


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.WRN(10, 1, num_classes=3, input_shape=(16, 24, 3))


def test_it_is_the_class_activation_map_divided_by_the_positions(network):
    cam = class_activation_maps(network, IMAGES, CLASSES)
    maps = grad_cam(network, IMAGES, CLASSES, relu=False, batch_size=2)
    assert maps.shape == (3, 4, 6) and maps.dtype == "float32"
    assert np.allclose(24 * maps, cam, atol=1e-5)
    positive = grad_cam(network, IMAGES, CLASSES)
    assert np.allclose(24 * positive, np.maximum(cam, 0), atol=1e-5)
    placed = grad_cam(network, IMAGES, CLASSES, relu=False, by_position=True)
    assert np.allclose(24 * placed, cam, atol=1e-5)


def test_without_classes_the_predicted_one_is_explained(network):
    logits = keras.ops.convert_to_numpy(network(IMAGES))
    predicted = grad_cam(network, IMAGES, logits.argmax(1))
    assert np.array_equal(grad_cam(network, IMAGES), predicted)


@pytest.mark.parametrize("softmax", ["layer", "activation"])
def test_a_last_softmax_is_left_out(network, softmax):
    x = network.get_layer("pool").output
    if softmax == "layer":
        x = keras.layers.Softmax()(network.get_layer("logits")(x))
    else:
        x = keras.layers.Dense(3, activation="softmax", name="last")(x)
    model = keras.Model(network.input, x)
    if softmax == "activation":
        weights = network.get_layer("logits").get_weights()
        model.get_layer("last").set_weights(weights)
    maps = grad_cam(model, IMAGES, CLASSES)
    assert np.allclose(maps, grad_cam(network, IMAGES, CLASSES), atol=1e-6)
    sums = keras.ops.convert_to_numpy(model(IMAGES)).sum(1)
    assert np.allclose(sums, 1)  # the softmax is back


def test_nested_and_subclassed_models_have_the_same_maps(network):
    inputs = keras.Input((16, 24, 3))
    nested = keras.Model(inputs, network(keras.layers.Identity()(inputs)))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = nested

        def call(self, images, training=False):
            return 2 * self.inner(images, training=training)

    expected = grad_cam(network, IMAGES, CLASSES)
    assert np.allclose(grad_cam(nested, IMAGES, CLASSES), expected)
    doubled = grad_cam(Subclassed(), IMAGES, CLASSES, layer="relu")
    assert np.allclose(doubled, 2 * expected, atol=1e-6)


def test_a_layer_inside_of_a_layer_can_be_explained(network):
    block = network.get_layer("group2_block1")
    maps = grad_cam(network, IMAGES, CLASSES, layer=block.convs[0])
    assert maps.shape == (3, 8, 12)
    assert (maps >= 0).all() and maps.max() > 0
    with pytest.raises(ValueError, match="'conv1', which 3 layers"):
        grad_cam(network, IMAGES, CLASSES, layer="conv1")


def test_a_score_of_ones_own_replaces_the_logit(network):
    # Two thirds of the gradient of class 1, and none of the other classes.
    maps = grad_cam(network, IMAGES, score=lambda y: y[:, 1] * 2 / 3)
    expected = grad_cam(network, IMAGES, [1, 1, 1])
    assert np.allclose(maps, expected * 2 / 3, atol=1e-6)


def test_by_hand_on_a_channel_that_a_dense_layer_reads():
    # The logit is 5 times the feature at row 1, column 2 of channel 0. Its
    # mean gradient over the 6 positions is 5/6.
    inputs = keras.Input((2, 3, 2))
    x = keras.layers.Identity(name="features")(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(1)(keras.layers.Flatten()(x))
    )
    kernel = np.zeros((2, 3, 2, 1))
    kernel[1, 2, 0] = 5
    model.layers[-1].set_weights([kernel.reshape(12, 1), np.zeros(1)])
    images = np.arange(12.0, dtype="float32").reshape(1, 2, 3, 2)
    maps = grad_cam(model, images, [0])
    assert np.allclose(maps[0], [[0, 10 / 6, 20 / 6], [5, 40 / 6, 50 / 6]])
    placed = grad_cam(model, images, [0], by_position=True)
    assert np.allclose(placed[0], [[0, 0, 0], [0, 0, 50]])


def test_channels_first_gives_the_same_maps(network):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels-first convs on CPUs")
    weights = network.get_weights()
    keras.config.set_image_data_format("channels_first")
    model = models.WRN(10, 1, num_classes=3, input_shape=(3, 16, 24))
    model.set_weights(weights)
    maps = grad_cam(model, np.moveaxis(IMAGES, -1, 1), CLASSES)
    expected = grad_cam(network, IMAGES, CLASSES)
    assert np.allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["ResNet50V2", "EfficientNetV2B0"])
def test_networks_of_keras_applications(name):
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(64, 96, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3))
    maps = grad_cam(model, images, [3, 5], relu=False)
    assert maps.shape == (2, 2, 3)
    # Both end with pooling and a dense layer.
    pool = [x for x in model.layers if "pool" in x.name][-1]
    features = keras.Model(model.input, pool.input)
    features = keras.ops.convert_to_numpy(features(images, training=False))
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)[:, [3, 5]]
    cam = np.einsum("nhwc,cn->nhw", features, kernel)
    assert np.allclose(6 * maps, cam, atol=1e-4 * abs(cam).max())


def test_a_classifier_of_keras_hub():
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub_backbone()
    model = keras_hub.models.ResNetImageClassifier(
        backbone=backbone, num_classes=3, activation="softmax"
    )
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3))
    maps = grad_cam(model, images, [0, 2], relu=False)
    features = keras.ops.convert_to_numpy(backbone(images, training=False))
    kernel = keras.ops.convert_to_numpy(model.output_dense.kernel)[:, [0, 2]]
    cam = np.einsum("nhwc,cn->nhw", features, kernel)
    assert maps.shape == cam.shape
    positions = maps[0].size
    assert np.allclose(positions * maps, cam, atol=1e-4 * abs(cam).max())


def test_what_cannot_be_explained_is_refused(network):
    with pytest.raises(ValueError, match="`layer` must name exactly one"):
        grad_cam(network, IMAGES, layer="no_such_layer")
    with pytest.raises(ValueError, match="does not contain"):
        grad_cam(network, IMAGES, layer=keras.layers.ReLU())
    with pytest.raises(ValueError, match="output with 4 axes"):
        grad_cam(network, IMAGES, layer="logits")
    with pytest.raises(ValueError, match="one int for each image"):
        grad_cam(network, IMAGES, 2)
    with pytest.raises(ValueError, match="`classes` must be None"):
        grad_cam(network, IMAGES, CLASSES, score=lambda y: y[:, 0])
    inputs = keras.Input((16, 24, 3))
    maps = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    with pytest.raises(ValueError, match="outputs of shape .images, classes"):
        grad_cam(maps, IMAGES, CLASSES)
    unused = keras.layers.Conv2D(2, 3, name="unused")(inputs)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    both = keras.Model(inputs, [logits, unused])
    other = {"score": lambda y: y[0][:, 0], "layer": "unused"}
    if keras.backend.backend() == "jax":
        assert not grad_cam(both, IMAGES, **other).any()
    else:
        with pytest.raises(ValueError, match="must influence the score"):
            grad_cam(both, IMAGES, **other)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="a feature map with 4 axes"):
        grad_cam(flat, np.ones((2, 4), "float32"))


def test_layers_are_as_before_after_an_error(network):
    def fail(layer, output):
        raise RuntimeError("stop")

    layer = network.get_layer("relu")
    with pytest.raises(RuntimeError, match="stop"):
        with interception.intercepted([layer], fail):
            network(IMAGES)
    assert "call" not in vars(layer)
    assert network(IMAGES).shape == (3, 3)


def test_feature_maps_are_the_outputs_of_their_layers(network):
    names = ["group1", "group3"]
    maps = interception.read_feature_maps(network, IMAGES, names, batch_size=2)
    for name, found in zip(names, maps, strict=True):
        output = keras.Model(network.input, network.get_layer(name).output)
        expected = keras.ops.convert_to_numpy(output(IMAGES))
        assert np.allclose(found, expected, atol=1e-5)
