"""Input for ImageNet: crops of photographs, read from disk when needed."""

import io

import keras
import numpy as np
import pytest

from keras_dropblock import data
from keras_dropblock.data import images

tf = pytest.importorskip("tensorflow")
SIZE = (32, 32)


@pytest.fixture
def photographs(imagenette):
    return data.load(
        imagenette,
        test_split="validation",
        image_size=32,
        streamed=True,
        crop_fraction=0.875,
    )


PIXELS = data.Preprocessing((32, 32), (0.0,) * 3, (1.0,) * 3)


def batches(photographs, split="train", **arguments):
    arguments = {"batch_size": 64, "preprocessing": PIXELS, **arguments}
    targets = np.eye(10, dtype="float32").__getitem__
    return photographs.batches(split, targets=targets, **arguments)


def encode(pixels, kind="JPEG", mode="RGB", **options):
    """An image file, written by a different library than the one under test."""
    Image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


# --- parts


def test_a_part_has_the_area_and_aspect_ratio_of_inception():
    # Pixel values are coordinates, so they show which part was cropped.
    rows, columns = np.meshgrid(np.arange(100), np.arange(200), indexing="ij")
    pixels = np.stack([rows, columns, 0 * rows], -1).astype("uint8")
    file = encode(pixels, "PNG")
    part = tf.function(lambda i: images._random_part(file, (7, i)))
    areas, ratios = [], []
    for i in range(300):
        y, x, _ = np.moveaxis(part(tf.constant(i, tf.int64)).numpy(), -1, 0)
        height, width = np.ptp(y) + 1.0, np.ptp(x) + 1.0
        assert y.shape == (height, width)
        areas.append(height * width / 20_000)
        ratios.append(width / height)
    # Sides are rounded to whole pixels: the error is up to half a pixel in 40.
    assert 0.075 < min(areas) < 0.12 and max(areas) > 0.6
    assert 0.73 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.37


def test_half_of_the_photographs_are_mirrored():
    pixels = np.zeros((40, 40, 3), "uint8")
    pixels[:, 20:] = 255
    file = encode(pixels)
    crop = tf.function(lambda i: images.resized_crop_flip(file, SIZE, (1, i)))
    # Ignore parts that lie entirely in one half of the image.
    sides = [
        np.sign(float(part[:, 16:].mean()) - float(part[:, :16].mean()))
        for part in (crop(tf.constant(i, tf.int64)).numpy() for i in range(200))
    ]
    mirrored, straight = sides.count(-1), sides.count(1)
    n = mirrored + straight
    assert n > 100 and abs(mirrored - n / 2) < 4 * (n / 4) ** 0.5


def test_a_test_image_is_its_central_part_resized():
    pixels = np.zeros((64, 96, 3), "uint8")
    pixels[4:60, 20:76] = 200  # 0.875 of the central square with side 64
    fitted = data.fit_to_size(pixels, (28, 28), 0.875).numpy()
    assert (fitted == 200).all()
    fitted = data.fit_to_size(pixels, (28, 28)).numpy()
    assert (fitted[0] == 0).all() and (fitted[14, 14] == 200).all()


@pytest.mark.parametrize(
    "shape, size",
    [
        ((64, 96), (16, 24)),
        ((50, 75), (16, 24)),  # 3.125 pixels become one
        ((37, 37), (16, 16)),
        ((33, 33), (32, 32)),
        ((16, 24), (50, 75)),
    ],
)
def test_resizing_equals_pillows_antialiased_bilinear(shape, size):
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    theirs = Image.fromarray(pixels).resize(size[::-1], Image.BILINEAR)
    ours = data.fit_to_size(pixels, size).numpy()
    # Pillow rounds twice, after columns and after rows, by up to 0.5 each time.
    # We round once. Together this is 1.5, so integers differ by at most 1.
    # Without antialiasing, shrunken noise would differ by 10 to 115.
    difference = ours.astype(int) - np.asarray(theirs)
    assert abs(difference).max() <= 1
    # Rounding has no bias: the mean of 768 differences of at most 1 has a
    # standard error of at most 1 / 768^0.5 = 0.036.
    assert abs(difference.mean()) < 4 * 0.036


ODD = {
    "grayscale": ((40, 60), "JPEG", "L"),
    "CMYK": ((40, 60), "JPEG", "CMYK"),
    "one pixel wide": ((50, 1), "JPEG", "RGB"),
    "one pixel high": ((1, 50), "JPEG", "RGB"),
    "one pixel": ((1, 1), "JPEG", "RGB"),
    "progressive": ((40, 60), "JPEG", "RGB"),
    "PNG named JPEG": ((40, 60), "PNG", "RGB"),
    "palette": ((40, 60), "PNG", "P"),
    "transparent": ((40, 60), "PNG", "RGBA"),
    "GIF": ((40, 60), "GIF", "P"),
}


@pytest.mark.parametrize("name", ODD)
def test_unusual_images_keep_their_color(name):
    shape, kind, mode = ODD[name]
    pixels = np.full((*shape, 3), (51, 102, 204), "uint8")
    options = {"progressive": True} if name == "progressive" else {}
    file = encode(pixels, kind, mode, **options)
    # ITU-R 601: 0.299 * 51 + 0.587 * 102 + 0.114 * 204 = 98
    color = (98, 98, 98) if mode == "L" else (51, 102, 204)

    @tf.function
    def both(encoded):
        return (
            images.resized_crop_flip(encoded, SIZE, (0, 1)),
            images.fit_to_size(images.decode(encoded), SIZE, 0.875),
        )

    for image in both(tf.constant(file)):
        assert image.shape == (*SIZE, 3) and image.dtype == tf.uint8
        assert abs(image.numpy() - np.float32(color)).max() <= 4  # JPEG's loss


# --- batches


def test_a_batch_is_a_function_of_seed_epoch_and_index(photographs):
    def batch(index, seed=3, epoch=1):
        b = batches(photographs, training=True, seed=seed)
        b.epoch = epoch
        return b[index]

    b = batches(photographs, training=True, seed=3)
    b.epoch = 1
    in_turn = [b[i] for i in range(3)]
    for kind in (0, 1):  # images, labels
        assert np.array_equal(in_turn[2][kind], batch(2)[kind])  # out of turn
        assert not np.array_equal(batch(0)[kind], batch(0, epoch=2)[kind])
        assert not np.array_equal(batch(0)[kind], batch(0, seed=4)[kind])
        b.first_batch = 2  # as in a run that is resumed within an epoch
        assert np.array_equal(in_turn[2][kind], b[0][kind])


def test_an_epoch_has_whole_batches_and_each_label_as_often(photographs):
    b = batches(photographs, training=True, batch_size=500)
    assert len(b) == 3  # 1,500 images
    labels = np.concatenate([b[i][1] for i in range(3)]).argmax(1)
    assert np.bincount(labels).tolist() == [150] * 10
    assert len(batches(photographs, training=True)) == 23  # 1500 // 64


def test_the_test_has_all_images_in_order(photographs):
    b = batches(photographs, "test")
    assert len(b) == 8  # 500 / 64, the last of 52
    read = [b[i] for i in range(8)]
    assert np.concatenate([y for _, y in read]).argmax(1).tolist() == list(
        b.labels
    )
    assert np.bincount(b.labels).tolist() == [50] * 10
    assert [len(x) for x, _ in read] == [64] * 7 + [52]
    assert np.array_equal(b[0][0], read[0][0])


def test_real_photographs_are_normalized_to_about_0_and_1(photographs):
    normalized = data.Preprocessing((32, 32), *photographs.statistics())
    for split, training in (("train", True), ("test", False)):
        b = batches(
            photographs, split, training=training, preprocessing=normalized
        )
        x = np.concatenate([b[i][0] for i in range(6)])
        assert x.shape == (384, 32, 32, 3) and x.dtype == np.float32
        # Imagenette has ten classes of ImageNet, so its statistics are similar
        # but not equal.
        assert abs(x.mean((0, 1, 2))).max() < 0.3
        assert abs(x.std((0, 1, 2)) - 1).max() < 0.3


def test_cutout_and_mixup_are_for_photographs_too(photographs):
    both = {"cutout": 16, "mixup": 1.0}
    x, y = batches(photographs, training=True, augmentation=both)[0]
    assert (y.max(1) < 1).any() and np.allclose(y.sum(1), 1)
    plain, _ = batches(photographs, training=True)[0]
    assert (x == 0).mean() > (plain == 0).mean() + 0.02


def test_photographs_are_read_without_autotuning(photographs, monkeypatch):
    seen, original = [], tf.data.Dataset.as_numpy_iterator

    def spy(dataset):
        seen.append(dataset.options().autotune.enabled)
        return original(dataset)

    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", spy)
    batches(photographs, training=True)[0]
    assert seen == [False]


def test_fit_takes_the_batches_epoch_by_epoch(photographs):
    seen = []

    class Seen(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential(
        [Seen(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    )
    model.compile("sgd", "mse")
    b = batches(photographs, training=True, batch_size=256)
    read = b.read

    def recorded(index):
        seen.append((b.epoch, index))
        return read(index)

    b.read = recorded

    class Epoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            b.epoch = epoch

    model.fit(b, epochs=2, shuffle=False, verbose=0, callbacks=[Epoch()])
    # Keras reads the first batch one extra time to get its shape.
    assert seen[-10:] == [(e, i) for e in (0, 1) for i in range(5)]


def test_data_that_are_not_photographs_are_refused(imagenette):
    with pytest.raises(data.DataError, match="test_split"):
        data.load(imagenette, image_size=32, streamed=True)
    with pytest.raises(data.DataError, match="must be a slice if images"):
        data.load(
            imagenette,
            test_split="validation",
            validation_split=0.1,
            image_size=32,
            streamed=True,
        )
    with pytest.raises(data.DataError, match="reads photographs from a folder"):
        data.load("digits", streamed=True)
