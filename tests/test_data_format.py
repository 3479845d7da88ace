"""Networks give the same predictions if channels_first is the default."""

import keras
import numpy as np
import pytest

from keras_dropblock import export, load, models, tasks
from keras_dropblock.analysis import complexity
from keras_dropblock.errors import RecipeError, WeightsError
from keras_dropblock.training import evaluation, trainer
from small_runs import small

NETWORKS = {
    "WRN": lambda **options: models.WRN(10, 1, **options),
    "ResNet": lambda **options: models.ResNet(18, 0.25, **options),
    "CifarResNet": lambda **options: models.CifarResNet(8, **options),
    "PreActResNet": lambda **options: models.PreActResNet(
        11, bottleneck=True, **options
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def use(data_format):
    keras.config.set_image_data_format(data_format)  # reset by conftest


def predicted(model, images):
    return tasks.Classification().probabilities(model, model.card, images)


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@every_network
def test_the_default_shape_follows_the_default_format(name):
    last = NETWORKS[name]()
    use("channels_first")
    first = NETWORKS[name]()
    _, height, width, channels = last.input.shape
    assert (channels, height) in {(3, 32), (3, 224)}
    assert first.input.shape == (None, channels, height, width)
    assert trainable(first) == trainable(last)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_wrn_10_1_has_77_850_parameters(data_format):
    use(data_format)
    assert trainable(models.WRN(10, 1)) == 77_850
    assert complexity.size("WRN-10-1", (32, 32, 3), 10)[0] == 77_850


@every_network
def test_networks_predict_and_learn_the_same_in_both_formats(name):
    size = {"input_shape": (18, 10, 3), "num_classes": 4}
    last = NETWORKS[name](**size)
    use("channels_first")
    first = NETWORKS[name](**{**size, "input_shape": (3, 18, 10)})
    first.set_weights(last.get_weights())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 18, 10, 3)).astype("float32")
    y = np.arange(8) % 4
    in_format = {last: x, first: np.moveaxis(x, 3, 1)}
    logits = [keras.ops.convert_to_numpy(m(x)) for m, x in in_format.items()]
    assert np.allclose(*logits, atol=1e-5)
    for model, x in in_format.items():
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            # On TensorFlow, tracing a step would take longer than the step.
            run_eagerly=keras.backend.backend() == "tensorflow",
            jit_compile=keras.backend.backend() == "jax",
        )
        model.fit(x, y, batch_size=8, verbose=0)
    for a, b in zip(first.get_weights(), last.get_weights(), strict=True):
        # Weights are below 3, and float32 sums have a different order.
        assert np.allclose(a, b, atol=1e-4)


def test_published_models_load_and_predict_the_same_in_both_formats():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    model = load("wrn_16_1_cifar10")
    probabilities = predicted(model, images)
    use("channels_first")
    first = load("wrn_16_1_cifar10")
    assert first.input.shape == (None, 3, 32, 32)
    # Models keep the format they were built in, for any current default.
    for loaded in (first, model):
        assert np.allclose(predicted(loaded, images), probabilities, atol=1e-5)
    by_name = models.WRN(16, 1, weights="cifar10")
    assert np.allclose(predicted(by_name, images), probabilities, atol=1e-5)
    use("channels_last")
    assert np.allclose(predicted(first, images), probabilities, atol=1e-5)


@pytest.mark.tensorflow_only
def test_an_export_takes_channels_last_whatever_the_network_takes(tmp_path):
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    use("channels_first")
    model = load("wrn_16_1_cifar10")
    served = tf.saved_model.load(export(model, tmp_path / "first"))
    given = served.signatures["serve_uint8"](images=tf.constant(images))
    assert np.allclose(given["output_0"], predicted(model, images), atol=1e-5)


@pytest.mark.tensorflow_only
def test_files_are_labeled_in_channels_first(tmp_path):
    import tensorflow as tf

    use("channels_first")
    model = load("wrn_16_1_cifar10")
    large = np.random.default_rng(0).integers(0, 256, (40, 50, 3), "uint8")
    path = tmp_path / "image.png"
    path.write_bytes(tf.io.encode_png(large).numpy())
    of_file, of_array = (predicted(model, [x]) for x in (path, large))
    assert np.array_equal(of_file, of_array)


def test_published_weights_for_other_channels_are_refused():
    use("channels_first")
    with pytest.raises(WeightsError, match="need 3 channels. Received: 1"):
        models.WRN(16, 1, input_shape=(1, 32, 32), weights="cifar10")


@pytest.mark.parametrize(
    "data_format, shape, read_as, right",
    [
        ("channels_first", (32, 24, 3), 32, r"\(3, 32, 24\)"),
        ("channels_last", (1, 28, 24), 24, r"\(28, 24, 1\)"),
    ],
)
def test_a_shape_in_the_other_format_gives_a_warning(
    data_format, shape, read_as, right
):
    use(data_format)
    message = rf"`input_shape` .* {read_as} channels.*Did you mean {right}\?"
    with pytest.warns(UserWarning, match=message) as warned:
        models.WRN(10, 1, input_shape=shape)
    assert warned[0].filename == __file__  # the line to correct


def test_training_and_evaluation_by_recipe_require_channels_last(npz, tmp_path):
    use("channels_first")
    recipe = small(npz)
    needs = "need image_data_format channels_last.*channels_first"
    with pytest.raises(RecipeError, match=needs):
        trainer.fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    model = models.WRN(10, 1, input_shape=(3, 16, 16), num_classes=4)
    resolved = recipe.override(["mean=[1, 1, 1]", "std=[2, 2, 2]"])
    with pytest.raises(RecipeError, match=needs):
        evaluation.evaluate_model(model, resolved)
