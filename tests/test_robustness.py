"""Scores with DropBlock left on, on corrupted and on occluded images."""

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.analysis import corruptions, occlusion, robustness
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.hub import load
from keras_dropblock.layers import dropblock_layers

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), "uint8")
KINDS = tuple(corruptions.STRENGTHS)


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_corruptions_change_more_pixels_by_more(kind):
    ramp = np.linspace(0, 255, 48)[None, None, :, None]
    checks = 40.0 * (np.indices((32, 48)).sum(0) % 2)[None, :, :, None]
    images = np.clip(ramp + checks, 0, 255).astype("uint8")
    images = np.repeat(np.repeat(images, 3, 0), 3, -1)
    changes = [
        abs(corruptions.corrupt(images, kind, strength) - images.astype(int))
        for strength in (1, 2, 3, 4, 5)
    ]
    sizes = [change.mean() for change in changes]
    assert sizes[0] > 0 and sizes[-1] > 1.3 * sizes[0]
    if kind in ("noise", "contrast"):
        assert sizes == sorted(sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_corrupted_images_are_images(kind, channels):
    images = PIXELS[..., :channels]
    damaged = corruptions.corrupt(images, kind, 3)
    assert damaged.shape == images.shape and damaged.dtype == "uint8"
    assert np.array_equal(damaged, corruptions.corrupt(images, kind, 3))


def test_corruptions_by_hand():
    two = np.zeros((1, 10, 10, 1), "uint8")
    two[0, :, 5:] = 200
    # The mean is 100, and a quarter of the deviation stays.
    low = corruptions.corrupt(two, "contrast", 4)
    assert {*low.ravel().tolist()} == {75, 125}
    # Half the side: squares of 2 x 2 pixels with their mean.
    pixels = np.arange(100, dtype="uint8").reshape(1, 10, 10, 1)
    squares = corruptions.corrupt(pixels, "pixelation", 3)[0, :, :, 0]
    assert {*squares[:2, :2].ravel().tolist()} <= {5, 6}  # mean of 0, 1, 10, 11
    assert len(np.unique(squares)) == 25
    # A blur keeps the mean, and its standard deviation is in pixels.
    dot = np.zeros((1, 40, 60, 1), "uint8")
    dot[0, 20, 30] = 255
    blurred = corruptions.corrupt(dot, "blur", 1)[0, :, :, 0]  # sigma .5
    beside = 255 * np.exp(-2) / (1 + 2 * np.exp(-2)) ** 2
    assert blurred[20, 31] == pytest.approx(beside, abs=1.5)
    flat = np.full((2, 64, 64, 3), 128, "uint8")
    noise = corruptions.corrupt(flat, "noise", 2) - 128.0
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.02)


def test_other_corruptions_are_refused():
    with pytest.raises(ValueError, match="`kind` must be one of noise, blur"):
        corruptions.corrupt(PIXELS, "fog", 1)
    with pytest.raises(ValueError, match="`strength` must be an int from 1"):
        corruptions.corrupt(PIXELS, "blur", 0)
    with pytest.raises(ValueError, match="before normalization"):
        corruptions.corrupt(PIXELS / 255.0, "blur", 1)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.WRN(10, 1, num_classes=3, input_shape=(16, 24, 3))


LABELS = np.array([0, 1, 2, 0])


def test_scores_of_the_original_images_are_the_first_row(network):
    rows = robustness.score_under_corruption(
        network, lambda x: x / 255.0, PIXELS, LABELS, strengths=(2, 5)
    )
    assert [(row["kind"], row["strength"]) for row in rows] == [
        ("none", 0),
        *((kind, strength) for kind in KINDS for strength in (2, 5)),
    ]
    assert len({row["nll"] for row in rows}) == len(rows)
    logits = outputs(network, PIXELS / 255.0)
    assert rows[0]["nll"] == robustness.scores(logits, LABELS)["nll"]


def test_a_twin_with_dropblock_has_the_same_outputs():
    model = load("wrn_16_1_cifar10")
    assert not dropblock_layers(model)
    twin = robustness.with_dropblock(model)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    assert len(dropblock_layers(twin)) == 8  # 4 blocks, 2 places in each
    assert np.array_equal(outputs(twin, images), outputs(model, images))
    assert robustness.with_dropblock(twin) is twin
    with pytest.raises(ValueError, match="or a card from which"):
        robustness.with_dropblock(models.WRN(10, 1))


def test_dropblock_at_inference_costs_the_more_the_more_is_dropped():
    model = load("wrn_16_1_cifar10_dropblock")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 32, 32, 3))
    before = outputs(model, images)
    labels = before.argmax(1)  # so that everything is right without drops
    rows = robustness.score_under_dropblock(
        model,
        images,
        labels,
        keep_probs=(1.0, 0.6, 0.2),
        block_sizes=(1, 3),
        repeats=2,
    )
    assert [(row["block_size"], row["keep_prob"]) for row in rows] == [
        (size, keep_prob) for size in (1, 3) for keep_prob in (1.0, 0.6, 0.2)
    ]
    for none, some, many in (rows[:3], rows[3:]):
        assert none["accuracy"] == 1 and none["accuracy_std"] == 0
        assert none["nll"] < some["nll"] < many["nll"]
        assert none["images"] == 20
    assert np.array_equal(outputs(model, images), before)


def brightness():
    """A model with two classes: the sum of an image, and 0."""
    inputs = keras.Input((6, 8, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(x))
    model.layers[-1].set_weights([np.tile([[1.0, 0.0]], (48, 1))])
    return model


def test_a_square_that_hides_the_object_lowers_its_probability():
    images = np.zeros((1, 6, 8, 1), "float32")
    images[0, 2:4, 4:6] = 1
    found = occlusion.occlusion_maps(
        brightness(), images, [0], size=2, stride=2
    )
    assert found.shape == (1, 3, 4)
    sigmoid = 1 / (1 + np.exp(-4.0))
    expected = np.zeros((3, 4))
    expected[1, 2] = sigmoid - 0.5
    assert np.allclose(found[0], expected, atol=1e-6)
    # The other class gains what this one loses.
    other = occlusion.occlusion_maps(
        brightness(), images, [1], size=2, stride=2
    )
    assert np.allclose(other, -found, atol=1e-6)


def test_scores_under_a_square_by_hand():
    images = np.zeros((2, 6, 8, 1), "float32")
    images[0, :, :2] = 1  # hidden only by a square at the left border
    images[1] = 1  # never hidden
    rows = occlusion.score_under_occlusion(
        brightness(), images, [0, 0], sizes=[6], steps=2
    )
    assert [row["size"] for row in rows] == [0, 6]
    assert rows[0]["accuracy"] == rows[0]["worst"] == 1
    # The positions are columns 0 and 2, each in two equal rows. With a sum of
    # 0 both logits are equal, and the first class is predicted.
    assert rows[1]["accuracy"] == 1
    rows = occlusion.score_under_occlusion(
        brightness(), images - 0.01, [0, 0], sizes=[6], steps=2
    )
    assert rows[1]["accuracy"] == 0.75 and rows[1]["worst"] == 0.5


def test_squares_that_do_not_fit_are_refused():
    images = np.zeros((1, 6, 8, 1), "float32")
    with pytest.raises(ValueError, match="`size` must be between 1 and"):
        occlusion.occlusion_maps(brightness(), images, [0], size=7, stride=1)
    with pytest.raises(ValueError, match="`size` must be between 1 and"):
        occlusion.score_under_occlusion(brightness(), images, [0], sizes=[0])


def test_a_square_hides_the_same_pixels_in_both_formats():
    images = np.ones((1, 6, 8, 3))
    hidden = occlusion.occlude(images, 1, 2, 3)
    assert hidden.sum() == images.sum() - 27 and not hidden[0, 1:4, 2:5].any()
    first = occlusion.occlude(
        np.moveaxis(images, -1, 1), 1, 2, 3, "channels_first"
    )
    assert np.array_equal(np.moveaxis(first, 1, -1), hidden)
