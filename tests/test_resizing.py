"""Evaluation transforms of timm, compared with Pillow pixel by pixel."""

import functools
import io
import math

import numpy as np
import pytest

from keras_dropblock import data, hub, models, predict
from keras_dropblock.data import resizing
from keras_dropblock.errors import DataError
from keras_dropblock.exports.image_files import decode_each

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.tensorflow_only

FILL = (124, 116, 104)


def of_pillow(image, size, crop_fraction, framing, interpolation):
    """timm's evaluation transform, from its documentation."""
    method = getattr(Image, interpolation.upper())
    scaled = [math.floor(side / crop_fraction) for side in size]
    width, height = image.size
    if framing == "squash_crop":
        shape = scaled
    elif framing == "resize_crop" and scaled[0] == scaled[1]:
        short = min(width, height)
        shape = [int(scaled[0] * side / short) for side in (height, width)]
    else:
        ratios = height / scaled[0], width / scaled[1]
        ratio = max(ratios) if framing == "border_crop" else min(ratios)
        shape = [round(height / ratio), round(width / ratio)]
    pixels = np.asarray(image.resize(shape[::-1], method))
    lack = [max(side - n, 0) for side, n in zip(size, shape, strict=True)]
    canvas = np.empty((shape[0] + lack[0], shape[1] + lack[1], 3), "uint8")
    canvas[:] = FILL
    top, left = lack[0] // 2, lack[1] // 2
    canvas[top : top + shape[0], left : left + shape[1]] = pixels
    top, left = (
        round((have - want) / 2)
        for have, want in zip(canvas.shape, size, strict=False)
    )
    return canvas[top : top + size[0], left : left + size[1]]


@functools.cache
def in_graph(size, crop_fraction, framing, interpolation):
    return tf.function(
        functools.partial(
            resizing.resize_and_crop,
            size=size,
            crop_fraction=crop_fraction,
            framing=framing,
            interpolation=interpolation,
            fill=FILL,
        ),
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size, crop_fraction, framing",
    [
        ((32, 32), 0.875, "resize_crop"),
        ((24, 40), 0.9, "resize_crop"),
        ((32, 24), 0.95, "squash_crop"),
        ((32, 40), 0.8, "border_crop"),
        ((32, 32), 1.0, "border_crop"),
    ],
)
def test_each_pixel_is_that_of_pillow(
    size, crop_fraction, framing, interpolation
):
    options = size, crop_fraction, framing, interpolation
    rng = np.random.default_rng(0)
    # Larger and smaller than the result, upright, wide and extreme.
    for height, width in ((160, 213), (97, 64), (20, 17), (51, 500), (1, 3)):
        pixels = rng.integers(0, 256, (height, width, 3), "uint8")
        given = in_graph(*options)(pixels).numpy()
        expected = of_pillow(Image.fromarray(pixels), *options)
        assert np.array_equal(given, expected), (height, width)


def test_an_export_decodes_and_resizes_as_pillow():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), "uint8")
    image = Image.fromarray(coarse.repeat(8, 0).repeat(8, 1))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    preprocessing = data.Preprocessing(
        (32, 24), FILL, (60.0,) * 3, 0.9, "bicubic", "resize_crop"
    )
    pixels, status = tf.function(decode_each)(
        tf.constant([file.getvalue(), b"text"]), preprocessing
    )
    expected = of_pillow(
        Image.open(file), (32, 24), 0.9, "resize_crop", "bicubic"
    )
    assert status.numpy().tolist()[0] == b"ok"
    assert np.array_equal(pixels[0], expected)


def test_two_pixels_become_one():
    pixels = np.array([[[10], [21]]], "uint8")
    # The mean is 15.5, and halves are rounded up.
    given = resizing.resize_and_crop(
        tf.constant(pixels), (1, 1), 1.0, "squash_crop", "bilinear"
    )
    assert given.numpy().tolist() == [[[16]]]


def test_an_unknown_framing_is_an_error():
    with pytest.raises(
        DataError, match="`framing` must be one of crop, pad, resize"
    ):
        data.Preprocessing((8, 8), (0.0,), (1.0,), framing="middle")


@pytest.mark.slow
@pytest.mark.parametrize(
    "crop_fraction, interpolation", [(0.875, "bilinear"), (0.95, "bicubic")]
)
def test_photographs_are_classified_as_after_pillow(
    imagenette, tmp_path, crop_fraction, interpolation
):
    """All 500 files: the same pixels, and so the same answers."""
    import tensorflow_datasets

    mean, std = data.preprocessing.IMAGENET
    card = hub.Card(
        "random",
        data.Preprocessing(
            (224, 224), mean, std, crop_fraction, interpolation, "resize_crop"
        ),
        class_names=(),
    )
    model = models.ResNet(18, 0.25, num_classes=1000)  # random weights
    files = tensorflow_datasets.builder(imagenette).as_dataset(
        split="validation",
        decoders={"image": tensorflow_datasets.decode.SkipDecoding()},
    )
    paths, expected = [], []
    for i, example in enumerate(files):
        encoded = example["image"].numpy()
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(encoded)
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        pixels = of_pillow(
            image, (224, 224), crop_fraction, "resize_crop", interpolation
        )
        given = data.images.read_all(paths[-1:], card.preprocessing)[0]
        assert np.array_equal(given, pixels), i
        expected.append((pixels.astype("float32") - mean) / np.float32(std))
    best = model.predict(
        np.array(expected, "float32"), batch_size=100, verbose=0
    ).argmax(1)
    answers = predict(model, paths, top=1, card=card, batch_size=100)
    assert len(paths) == 500
    assert [int(answer[0][0]) for answer in answers] == best.tolist()
