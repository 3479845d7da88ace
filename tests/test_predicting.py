"""`predict` for files and arrays: the same labels as when served."""

import dataclasses

import keras
import numpy as np
import pytest

import small_runs as runs
from keras_dropblock import exports, models
from keras_dropblock import predict as predict_top
from keras_dropblock.data import images as reading
from keras_dropblock.errors import MissingExtraError, WeightsError
from keras_dropblock.tasks import classification
from test_encoded import png_of_size

CLASSES = ("north", "east", "south", "west")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = models.WRN(10, 1, num_classes=4, input_shape=(16, 24, 3))
    model.card = runs.card((16, 24, 3), CLASSES)
    return model


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 4, 6, 3), "uint8")
    return coarse.repeat(4, 1).repeat(4, 2)


@pytest.fixture
def files(images, tmp_path):
    """The images as JPEG and PNG files of other sizes, color and gray."""
    tf = pytest.importorskip("tensorflow")
    paths = []
    for i, image in enumerate(images):
        large = image.repeat(i + 1, 0).repeat(3, 1)
        content = (
            tf.io.encode_png(large[..., : 1 if i == 4 else 3])
            if i % 2 == 0
            else tf.io.encode_jpeg(large)
        )
        paths.append(tmp_path / f"{i}.{('png', 'jpg')[i % 2]}")
        paths[-1].write_bytes(content.numpy())
    return paths


def predict(model, images, **arguments):
    """(most probable label of each image, probabilities as in CLASSES)."""
    rows = predict_top(model, images, top=len(CLASSES), **arguments)
    in_order = [[dict(row)[name] for name in CLASSES] for row in rows]
    return [row[0][0] for row in rows], np.reshape(in_order, (-1, 4))


def probabilities(model, images):
    logits = model.predict(model.card.normalize(images), verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def test_arrays_get_the_models_probabilities_and_names(
    model, images, monkeypatch
):
    # More images than fit into one batch, and without TensorFlow.
    monkeypatch.setattr(classification, "_AT_ONCE", 2)
    monkeypatch.setattr(reading, "_tensorflow", None)
    labels, found = predict(model, images)
    assert np.allclose(found, probabilities(model, images), atol=1e-6)
    assert np.allclose(found.sum(1), 1)
    assert labels == [CLASSES[i] for i in found.argmax(1)]
    assert np.allclose(predict(model, list(images))[1], found)


def test_the_most_probable_classes_come_first_and_top_limits_them(
    model, images
):
    expected = probabilities(model, images)
    for top in (1, 3, 9):
        rows = predict_top(model, images, top=top)
        for row, all_of_it in zip(rows, expected, strict=True):
            order = np.argsort(-all_of_it)[:top]
            assert [label for label, _ in row] == [CLASSES[i] for i in order]
            assert [p for _, p in row] == pytest.approx(all_of_it[order])


@pytest.mark.tensorflow_only
def test_files_of_all_sizes_get_the_same_answer_as_from_serve_bytes(
    model, files, tmp_path
):
    import tensorflow as tf

    out = exports.export(model, tmp_path / "out")
    loaded = tf.saved_model.load(str(out))
    served = loaded.serve_bytes(tf.stack([p.read_bytes() for p in files]))
    labels, found = predict(model, [str(files[0]), *files[1:]])
    assert np.allclose(found, served["probabilities"], atol=1e-5)
    assert len(labels) == 5


def test_paths_and_arrays_of_any_size_may_be_mixed(model, images, files):
    taller = images[1].repeat(2, 0)  # the crop is the central half
    _, found = predict(model, [taller, images[1], files[0]])
    middle = np.stack([taller[8:24], images[1], images[0]])
    assert np.allclose(found[:2], probabilities(model, middle)[:2], atol=1e-5)
    # Three times as wide: the crop is the middle third.
    third = images[0].repeat(3, 1)[:, 24:48]
    assert np.allclose(
        found[2], probabilities(model, third[None])[0], atol=1e-5
    )


def test_images_are_cropped_by_the_card(model, tmp_path):
    tf = pytest.importorskip("tensorflow")
    preprocessing = dataclasses.replace(
        model.card.preprocessing, crop_fraction=0.875
    )
    card = dataclasses.replace(model.card, preprocessing=preprocessing)
    # The crop has one color, which resizing keeps. The frame is black.
    flat = np.full((16, 24, 3), (250, 120, 30), "uint8")
    expected = probabilities(model, flat[None])
    large = np.zeros((32, 48, 3), "uint8")
    large[2:30, 3:45] = flat[0, 0]  # 0.875 * 32 = 28, 0.875 * 48 = 42
    same = np.zeros_like(flat)
    same[1:15, 1:22] = flat[0, 0]  # 14 and 21
    file = tmp_path / "large.png"
    file.write_bytes(tf.io.encode_png(large).numpy())
    _, cropped = predict(model, [large, same, file], card=card)
    assert np.allclose(cropped, expected, atol=1e-5)
    # Without a crop, the black frame changes the answer.
    _, whole = predict(model, [large, same, file])
    assert (abs(whole - expected).max(1) > 1e-3).all()


def test_a_sequential_takes_the_card_it_is_given(model, images):
    other = keras.Sequential(
        [
            keras.Input((16, 24, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    _, found = predict(other, images, card=model.card)
    logits = other.predict(model.card.normalize(images), verbose=0)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    assert np.allclose(found, expected, atol=1e-6)


def test_an_empty_list_of_images_gives_an_empty_list(model):
    assert predict_top(model, []) == []


def test_a_network_for_all_sizes_uses_its_training_size(model, images):
    free = models.WRN(10, 1, num_classes=4, input_shape=(None, None, 3))
    free.set_weights(model.get_weights())
    _, found = predict(free, images, card=model.card)
    assert np.allclose(found, probabilities(model, images), atol=1e-5)


def test_an_image_that_cannot_be_read_is_named(model, images, files, tmp_path):
    pages, broken = tmp_path / "page.jpg", tmp_path / "broken.jpg"
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_of_size(5793, 5793))  # 2^25 = 5792.6^2
    pages.write_text("<html>")
    broken.write_bytes(files[1].read_bytes()[:150])
    for wrong, message in (
        ([images[0], images[0] / 255.0], "Received at 1: float64"),
        ([images[0][..., :1]], r"\(height, width, 3\). Received at 0: uint8"),
        ([None], "Received at 0: NoneType"),
        ([files[0], pages], "page.jpg must be a complete JPEG or PNG file"),
        ([broken], "broken.jpg cannot be decoded"),
        ([tmp_path], r"is a folder.*sorted\("),
        ([bomb], "bomb.png must have at most 33,554,432 pixels"),
        (images[0], "Did you mean a list with this image"),
        ("cat.png", "Did you mean a list with this image"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(model, wrong)
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        predict(model, [tmp_path / "nowhere.png"])
    without = models.WRN(10, 1)
    with pytest.raises(WeightsError, match="`model` has no card. Load it"):
        predict(without, images)


def test_files_need_tensorflow(model, files, images, monkeypatch):
    def tensorflow():
        raise ImportError("No module named 'tensorflow'")

    monkeypatch.setattr(reading, "tensorflow", tensorflow)
    assert len(predict(model, images)[0]) == 5
    with pytest.raises(MissingExtraError, match="pip install tensorflow-cpu"):
        predict(model, files)
