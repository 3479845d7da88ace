"""Class activation maps and confusion matrices of the cards."""

import keras
import numpy as np
import pytest

from keras_dropblock import data, models
from keras_dropblock.analysis import cam, confusion


@pytest.mark.parametrize(
    "model, side",
    [
        (lambda: models.WRN(10, 1, input_shape=(16, 24, 3)), (4, 6)),
        (lambda: models.CifarResNet(8, input_shape=(16, 24, 3)), (4, 6)),
    ],
)
def test_the_mean_of_a_map_and_the_bias_are_the_logit(model, side):
    model = model()
    model.get_layer("logits").bias.assign(np.arange(10) / 10)
    images = np.random.default_rng(0).normal(size=(3, 16, 24, 3))
    logits = keras.ops.convert_to_numpy(model(images))
    for classes in ([0, 0, 0], [7, 2, 9]):
        maps = cam.class_activation_maps(model, images, classes)
        assert maps.shape == (3, *side)
        means = maps.mean((1, 2)) + np.array(classes) / 10
        assert np.allclose(means, logits[range(3), classes], atol=1e-4)


def test_what_is_drawn_is_the_map_of_the_predicted_class(monkeypatch):
    model = models.WRN(10, 1, num_classes=3, input_shape=(16, 24, 3))
    model.get_layer("logits").bias.assign(np.array([0.0, 100.0, 0.0]))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), "uint8")
    preprocessing = data.Preprocessing((16, 24), (120.0,) * 3, (60.0,) * 3)
    normalize = preprocessing.normalize
    figures = []
    monkeypatch.setattr(
        cam.files, "write_figure", lambda _, figure: figures.append(figure)
    )
    cam.draw(model, normalize, images, [1, 2], ["a", "b", "c"], "cam.png")
    above, below = np.reshape(figures[0].axes, (2, 2))
    assert [axes.get_title() for axes in above] == ["b", "c"]  # the truth
    assert [axes.get_title() for axes in below] == ["b", "b"]
    colors = [axes.title.get_color() for axes in below]
    assert colors == ["black", "red"]  # right and wrong
    maps = cam.class_activation_maps(model, normalize(images), [1, 1])
    for axes, image, expected in zip(below, images, maps, strict=True):
        picture, overlay = axes.get_images()
        assert np.array_equal(picture.get_array(), image)
        assert np.allclose(overlay.get_array(), expected, atol=1e-5)
        # Rows go down and columns to the right, over the whole image.
        assert [*overlay.get_extent()] == [-0.5, 23.5, 15.5, -0.5]


def test_confusion_counts_true_rows_and_predicted_columns():
    matrix = confusion.confusion_matrix([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("classes, channels", [(4, 1), (30, 3)])
def test_pictures_are_drawn(tmp_path, classes, channels):
    shape = (16, 16, channels)
    model = models.WRN(10, 1, num_classes=classes, input_shape=shape)
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), "uint8")
    normalize = data.Preprocessing(
        shape[:2], (0.0,) * channels, (255.0,) * channels
    ).normalize
    names = [f"class {i}" for i in range(classes)]
    cam.draw(model, normalize, images, [0, 1], names, tmp_path / "cam.png")
    matrix = np.eye(classes, dtype=int)
    confusion.draw(matrix, names, tmp_path / "confusion.png")
    for name in ("cam", "confusion"):
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 3000
