"""SavedModels: equal to the model, self-contained, robust to bad files."""

import io

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from keras_dropblock import data, exports, hub, models
from keras_dropblock.cli import export as command
from keras_dropblock.layers import dropping_as_trained
from keras_dropblock.training import plan
from keras_dropblock.training.recipe import Recipe
from saved_graphs import answers_without_this_package, random_operations
from small_runs import MEAN, STD, card, write_untrained

pytestmark = pytest.mark.tensorflow_only
NAMES = ("tench", "English\nspringer", "church", "chute")
CARD = card(class_names=NAMES)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = models.WRN(10, 1, keep_prob=0.9, dropout=0.1, num_classes=4)
    model.card = CARD
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return exports.export(
        model,
        tmp_path_factory.mktemp("out"),
        recipe=Recipe(mean=MEAN, std=STD).to_toml(),
        monte_carlo_samples=4,
    )


@pytest.fixture(scope="module")
def loaded(exported):
    import tensorflow as tf

    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def photos():
    """Smooth images, which JPEG changes little."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 4, 4, 3), "uint8")
    return coarse.repeat(8, 1).repeat(8, 2)


def of_files(loaded, files):
    import tensorflow as tf

    return loaded.serve_bytes(tf.stack(files))["probabilities"].numpy()


def probabilities(model, images):
    logits = model.predict(CARD.normalize(images), verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def test_every_endpoint_gives_the_models_probabilities(model, loaded, photos):
    import tensorflow as tf

    expected = probabilities(model, photos)
    assert np.allclose(expected.sum(1), 1)
    pngs = tf.stack([tf.io.encode_png(image) for image in photos])
    answer = loaded.serve_bytes(pngs)
    assert answer["status"].numpy().tolist() == [b"ok"] * len(photos)
    pixels = photos.astype("float32")
    for given in (
        loaded.serve(pixels),
        loaded.signatures["serving_default"](images=pixels)["output_0"],
        loaded.serve_normalized(CARD.normalize(photos)),
        loaded.serve_uint8(photos),
        answer["probabilities"],
        keras.ops.softmax(model.layers[-1](loaded.features(photos))),
    ):
        assert np.allclose(given, expected, atol=1e-5)


def test_jpegs_are_decoded_as_pillow_decodes_them(model, loaded, photos):
    import tensorflow as tf

    Image = pytest.importorskip("PIL.Image")
    jpegs = [tf.io.encode_jpeg(image, quality=90).numpy() for image in photos]
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(file))) for file in jpegs]
    )
    expected = probabilities(model, pixels)
    assert np.allclose(of_files(loaded, jpegs), expected, atol=1e-5)


def test_files_of_any_size_and_mode_are_resized(model, loaded, photos):
    import tensorflow as tf

    # 24 pixels for each square of 8: antialiasing blurs the borders.
    large = photos.repeat(3, 1).repeat(3, 2)
    gray, small = large[1, ..., :1], photos[2, ::2, ::2]
    out = of_files(loaded, [*map(tf.io.encode_png, (large[0], gray, small))])
    seen = np.stack(
        [
            data.fit_to_size(image, (32, 32))
            for image in (large[0], gray.repeat(3, -1), small)
        ]
    )
    expected = probabilities(model, seen)
    assert np.allclose(out, expected, atol=1e-5)
    # Other images give other answers: a black image, and photos[0], which is
    # what resizing the first image without antialiasing gives.
    others = probabilities(model, np.stack([*photos, np.zeros_like(photos[0])]))
    distance = abs(expected[:, None] - others[None]).max(-1)
    assert distance.min() > 1e-3


def test_an_oblong_file_is_fitted_as_in_training(model, loaded, photos):
    import tensorflow as tf

    oblong = np.pad(photos[0], [(0, 0), (9, 9), (0, 0)])
    out = of_files(loaded, [tf.io.encode_png(oblong)])
    assert np.allclose(out, probabilities(model, photos[:1]), atol=1e-5)


def test_a_file_is_cropped_as_the_recipe_says(model, photos, tmp_path):
    import tensorflow as tf

    path = exports.export(model, tmp_path, card=card(crop_fraction=0.8))
    # 40 pixels, of which the central 32 are cropped.
    framed = np.pad(photos[0], [(4, 4), (4, 4), (0, 0)], mode="reflect")
    loaded = tf.saved_model.load(str(path))
    out = of_files(loaded, [tf.io.encode_png(framed)])
    assert np.allclose(out, probabilities(model, photos[:1]), atol=1e-5)


@pytest.mark.parametrize(
    "augmentation, fraction", [("resized_crop_flip", 0.875), ("none", 1.0)]
)
def test_the_card_of_a_recipe_has_its_crop(augmentation, fraction):
    recipe = Recipe(
        model="WRN-10-1", augmentation=augmentation, mean=MEAN, std=STD
    )
    images, labels = np.zeros((2, 28, 28, 3), "uint8"), np.arange(2)
    dataset = data.ArrayDataset({"train": (images, labels)}, ("a", "b"))
    card = plan.card_of(recipe, dataset, "tested")
    assert card.preprocessing.crop_fraction == fraction


def test_the_command_crops_files_as_the_recipe_says(
    photos, tmp_path, parsed_flags, capsys
):
    import tensorflow as tf

    recipe = Recipe(
        model="WRN-10-1",
        augmentation="resized_crop_flip",
        mean=MEAN,
        std=STD,
    )
    size = (28, 28)
    model = write_untrained(
        tmp_path / "run", recipe, (*size, 3), ["a", "b", "c"]
    )
    with flagsaver.as_parsed(
        workdir=str(tmp_path / "run"), out=str(tmp_path / "out")
    ):
        command.export()
    assert f"Exported: {tmp_path / 'out' / '1'}" in capsys.readouterr().out
    loaded = tf.saved_model.load(str(tmp_path / "out" / "1"))
    # The crop has 0.875 * 32 = 28 pixels, the size of the network: no resize.
    seen = photos[:, 2:30, 2:30]
    pngs = [tf.io.encode_png(image) for image in photos]
    given = of_files(loaded, pngs)
    assert np.allclose(given, probabilities(model, seen), atol=1e-5)
    whole = np.stack([data.fit_to_size(image, size) for image in photos])
    assert abs(given - probabilities(model, whole)).max() > 1e-3


def test_a_file_that_fails_does_not_affect_the_others(model, loaded, photos):
    import tensorflow as tf

    good = tf.io.encode_png(photos[0]).numpy()
    files = [good, b"", b"GIF89a" + b"\0" * 40, good[:90]]
    answer = loaded.serve_bytes(tf.constant(files))
    assert answer["status"].numpy().tolist() == [
        b"ok",
        b"empty",
        b"neither JPEG nor PNG",
        b"cannot be decoded",
    ]
    out = answer["probabilities"].numpy()
    assert np.allclose(out[0], probabilities(model, photos[:1]), atol=1e-5)
    assert not out[1:].any()


def test_monte_carlo_draws_new_masks_in_each_call(model, loaded, photos):
    first, second = loaded.monte_carlo(photos), loaded.monte_carlo(photos)
    mean, variance = first["mean"].numpy(), first["variance"].numpy()
    assert np.allclose(mean.sum(1), 1) and (variance > 0).all()
    # The largest variance of a variable in [0, 1] (Bhatia and Davis 2000).
    assert (variance <= mean * (1 - mean) + 1e-6).all()
    assert not np.allclose(mean, second["mean"], atol=1e-6)
    with dropping_as_trained(model):
        model.make_predict_function()
        drawn = np.stack(
            [
                keras.ops.softmax(
                    model.predict_on_batch(CARD.normalize(photos))
                )
                for _ in range(64)
            ]
        )
    many = np.mean([loaded.monte_carlo(photos)["mean"] for _ in range(16)], 0)
    # Compare two means of 64 draws: 6 standard errors for each of 20 numbers.
    error = np.sqrt(2 * drawn.var(0) / 64)
    assert (abs(many - drawn.mean(0)) < 6 * error + 1e-6).all()


def test_monte_carlo_needs_something_that_drops(tmp_path):
    model = models.WRN(10, 1, keep_prob=1.0)
    model.card = card()
    with pytest.raises(exports.ExportError, match="has no DropBlock, Drop"):
        exports.export(model, tmp_path, monte_carlo_samples=4)
    with pytest.raises(exports.ExportError, match="must be 2 or more"):
        exports.export(model, tmp_path, monte_carlo_samples=1)
    assert list(tmp_path.iterdir()) == []


def test_tfsmlayer_and_tensorflow_hub_can_load_it(
    model, exported, loaded, photos
):
    expected = probabilities(model, photos)
    # hub.KerasLayer needs a call and lists of variables.
    pixels = photos.astype("float32")
    assert np.allclose(loaded(pixels), expected, atol=1e-5)
    trainable = loaded.trainable_variables
    assert len(trainable) == len(model.trainable_variables)
    for endpoint, images in (("serve", pixels), ("serve_uint8", photos)):
        layer = keras.layers.TFSMLayer(exported, call_endpoint=endpoint)
        assert np.allclose(layer(images), expected, atol=1e-5)


def test_a_loaded_savedmodel_can_be_fine_tuned(exported, photos):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported))
    pixels, labels = photos.astype("float32"), np.arange(len(photos)) % 4

    def loss():
        probabilities = tf.gather(loaded(pixels), labels, batch_dims=1)
        return -tf.reduce_mean(tf.math.log(probabilities))

    before = loss()
    for _ in range(10):
        with tf.GradientTape() as tape:
            value = loss()
        variables = loaded.trainable_variables
        for variable, gradient in zip(
            variables, tape.gradient(value, variables), strict=True
        ):
            variable.assign_sub(0.01 * gradient)
    assert loss() < before - 0.05


def test_labels_card_and_recipe_are_in_assets(exported):
    assets = exported / "assets"
    assert (assets / "labels.txt").read_text().splitlines() == [
        "tench",
        "English springer",
        "church",
        "chute",
    ]
    assert hub.Card.from_folder(assets) == CARD
    recipe = Recipe.from_toml(assets / "recipe.toml")
    assert (recipe.mean, recipe.std) == (MEAN, STD)


def test_labels_that_do_not_fit_are_refused(model, tmp_path):
    with pytest.raises(exports.ExportError, match="each of the 4 classes"):
        exports.export(model, tmp_path, card=card(class_names=["cat", "dog"]))


def test_a_model_without_a_card_is_refused(tmp_path):
    with pytest.raises(exports.ExportError, match="has no card. Load it with"):
        exports.export(models.WRN(10, 1), tmp_path)


def test_an_unknown_format_is_refused(model, tmp_path):
    with pytest.raises(exports.ExportError, match="one of saved_model, onnx"):
        exports.export(model, tmp_path, format="onx")


def test_no_random_operation_is_left(loaded):
    plain = {
        "__call__",
        "serve",
        "serve_uint8",
        "serve_normalized",
        "serve_bytes",
        "features",
    }
    for name in plain:
        assert not random_operations(loaded.signatures[name])
    assert set(loaded.signatures) == plain | {"serving_default", "monte_carlo"}


def test_a_process_without_this_package_can_serve_it(
    model, exported, photos, tmp_path
):
    out = answers_without_this_package(exported, photos, tmp_path)["out"]
    assert np.allclose(out, probabilities(model, photos), atol=1e-5)


def test_versions_count_up_in_the_layout_of_tensorflow_serving(
    model, exported, tmp_path
):
    assert exported.name == "1" and (exported / "saved_model.pb").exists()
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    path = exports.export(model, tmp_path)
    assert path == tmp_path / "8"
    assert {p.name for p in tmp_path.iterdir()} == {"7", "8", "notes"}


def test_a_savedmodel_that_differs_is_not_kept(model, tmp_path, monkeypatch):
    answers = exports.saved_model.Served.answers
    monkeypatch.setattr(
        exports.saved_model.Served,
        "answers",
        lambda self, images: answers(self, images) + 1e-3 * np.arange(4),
    )
    with pytest.raises(exports.DifferenceError, match="differs from the"):
        exports.export(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(None, None, 3), (8, 8, 2)])
def test_image_shapes_that_no_file_can_have_are_rejected(tmp_path, shape):
    model = models.WRN(10, 1, input_shape=shape)
    model.card = card((8, 8, shape[-1]))
    with pytest.raises(exports.ExportError, match="`model` must have a"):
        exports.export(model, tmp_path)


def sequential(*first, classes=4):
    """A network that was not built by this package."""
    return keras.Sequential(
        [
            *first,
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes),
        ]
    )


@pytest.mark.parametrize("built_by", ["Input", "build", "call"])
def test_a_built_sequential_is_exported_like_any_model(
    photos, tmp_path, built_by
):
    import tensorflow as tf

    shape = (32, 32, 3)
    first = [keras.Input(shape)] if built_by == "Input" else []
    model = sequential(*first)
    if built_by == "build":
        model.build((None, *shape))
    elif built_by == "call":
        model(np.zeros((1, *shape), "float32"))
    out = exports.export(model, tmp_path, card=card(class_names="abcd"))
    loaded = tf.saved_model.load(str(out))
    expected = probabilities(model, photos)
    assert np.ptp(expected, 0).max() > 0.01  # the answers differ between images
    pngs = [tf.io.encode_png(image) for image in photos]
    assert np.allclose(loaded.serve_uint8(photos), expected, atol=1e-5)
    assert np.allclose(of_files(loaded, pngs), expected, atol=1e-5)
    features = loaded.features(photos)
    assert features.shape == (5, 6)
    given = keras.ops.softmax(model.layers[-1](features))
    assert np.allclose(given, expected, atol=1e-5)


class Subclassed(keras.Model):
    """A subclassed model, which has no list of inputs."""

    def __init__(self):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.logits = keras.layers.Dense(4)

    def call(self, x, training=None):
        return self.logits(self.pool(x))


def two_inputs():
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    return keras.Model(inputs, Subclassed()(keras.layers.add(inputs)))


def two_outputs():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, [Subclassed()(inputs) for _ in range(2)])


def a_map_of_logits():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(4)(inputs))


@pytest.mark.parametrize(
    "write",
    [
        exports.export,
        exports.export_onnx,
        exports.export_litert,
        lambda *arguments, **options: exports.export_litert_int8(
            *arguments, np.zeros((1, 8, 8, 3), "uint8"), ([], []), **options
        ),
    ],
)
@pytest.mark.parametrize(
    "build",
    [sequential, keras.Sequential, Subclassed, two_inputs, two_outputs]
    + [a_map_of_logits],
)
def test_models_that_are_no_built_image_classifier_are_rejected(
    build, write, tmp_path
):
    with pytest.raises(
        exports.ExportError, match="`model` must be a built .* model.build"
    ):
        write(build(), tmp_path, card=card())
    assert list(tmp_path.iterdir()) == []
