"""Sources, normalization, order and augmentation."""

import itertools
import threading
import time
import types

import keras
import numpy as np
import pytest

from keras_dropblock import data
from keras_dropblock.data import augmentation, preprocessing, tfds
from keras_dropblock.tasks import Classification


def require(name):
    """Skip the test if a data set of TFDS is not prepared."""
    pytest.importorskip("tensorflow_datasets")
    import tensorflow_datasets

    builder = tensorflow_datasets.builder(name)
    if not tfds.is_prepared(builder):
        pytest.skip(f"{name} is not prepared in {builder.data_path}")


def prepared(name):
    """The data set of TFDS, or skip the test if it is not prepared."""
    require(name)
    return data.load(name)


def random_crop(images, rng, pad, flip):
    drawn = augmentation.draw(rng, *images.shape[:3], pad=pad, flip=flip)
    return augmentation.crop(images, *drawn["crop"], pad)


def cutout(images, rng, size):
    drawn = augmentation.draw(rng, *images.shape[:3], cutout=size)
    return augmentation.blank(images, *drawn["blank"])


def mixup(images, labels, rng, alpha):
    drawn = augmentation.draw(rng, *images.shape[:3], mixup=alpha)
    return augmentation.mix(images, labels, *drawn["mix"])


def batches(n=50, **arguments):
    images = np.arange(n, dtype="uint8")[:, None, None, None]
    images = np.broadcast_to(images, (n, 6, 5, 1))
    arguments = {"batch_size": 8, **arguments}
    return data.ArrayBatches(
        images,
        np.arange(n),
        preprocessing=data.Preprocessing((6, 5), (0.0,), (1.0,)),
        targets=np.eye(n, dtype="float32").__getitem__,
        **arguments,
    )


def labels_of(b):
    return np.concatenate([b[i][1] for i in range(len(b))]).argmax(1)


# --- order


def test_training_order_is_a_function_of_seed_and_epoch():
    def labels(seed, epoch):
        b = batches(training=True, seed=seed)
        b.epoch = epoch
        return labels_of(b).tolist()

    assert labels(1, 3) == labels(1, 3)
    assert labels(1, 3) != labels(1, 4)
    assert labels(1, 3) != labels(2, 3)


def test_an_epoch_has_each_image_once_and_whole_batches():
    b = batches(50, training=True)
    labels = labels_of(b)
    assert len(b) == 6 and len(labels) == 48  # 50 // 8 * 8
    assert len(set(labels)) == 48
    x, y = b[2]
    assert (x[:, 0, 0, 0] == y.argmax(1)).all()
    assert y.dtype == np.float32 and (y.sum(1) == 1).all()


def test_evaluation_has_all_images_in_order():
    b = batches(50)
    labels = labels_of(b)
    assert labels.tolist() == list(range(50))
    assert len(batches(10_000, batch_size=128)) == 79  # 78 * 128 = 9,984


@pytest.mark.parametrize("training", [True, False])
def test_keras_reads_the_batches_of_the_epoch(training):
    b = batches(50, training=training)
    b.epoch, b.first_batch = 1, 2
    with b.for_keras() as read:
        if keras.backend.backend() == "tensorflow":
            assert not read.options().autotune.enabled
        assert len(read) == len(b) == (4 if training else 5)
        for epoch in (1, 2):  # `fit` changes it before each pass
            b.epoch = epoch
            seen = [read[i] for i in range(len(b))] if read is b else list(read)
            assert len(seen) == len(b)
            for (x, y), (x_expected, y_expected) in zip(seen, b, strict=True):
                np.testing.assert_array_equal(x, x_expected)
                np.testing.assert_array_equal(y, y_expected)


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_an_error_of_a_later_batch_reaches_the_caller(call):
    b = batches(50, training=call == "fit")
    b.targets = broken_after(1)
    inputs = keras.Input(b[0][0].shape[1:])
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    with (
        pytest.raises(data.DataError, match="a class 7 of 3"),
        b.for_keras() as read,
    ):
        options = {"shuffle": False} if call == "fit" else {}
        getattr(model, call)(read, verbose=0, **options)


def broken_after(count):
    """Targets that raise a DataError after `count` batches."""
    calls = itertools.count()

    def targets(labels):
        if next(calls) > count:
            raise data.DataError("a class 7 of 3")
        return np.zeros((len(labels), 1), "float32")

    return targets


def test_labels_that_are_no_class_are_refused():
    dataset = data.ArrayDataset(
        {"train": (np.zeros((2, 4, 4, 3), "uint8"), np.array([0, -1]))},
        ("cat", "dog"),
    )
    targets = Classification().targets(dataset)
    assert targets(np.array([1, 0])).tolist() == [[0, 1], [1, 0]]
    for labels in ([0, -1], [2, 0]):
        with pytest.raises(data.DataError, match="must be from 0 to 1"):
            targets(np.array(labels))


def test_fewer_images_than_a_batch_cannot_be_trained_on():
    with pytest.raises(ValueError, match="`batch_size` must not exceed"):
        batches(7, training=True)
    assert len(batches(7)) == 1


# --- augmentation


def test_padding_reflects_without_repeating_the_edge():
    image = np.arange(5, dtype="uint8").reshape(1, 1, 5, 1).repeat(5, 1)

    class Corner:
        """A generator that crops at the left edge of the padded image."""

        def integers(self, low, high, size):
            assert (low, high) == (0, 9)
            return np.zeros(size, int)

    (crop,) = random_crop(image, Corner(), pad=4, flip=False)
    assert crop[0, :, 0].tolist() == [4, 3, 2, 1, 0]


def test_every_crop_occurs_and_every_image_has_its_own():
    image = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    crops = random_crop(
        image.repeat(2000, 0), np.random.default_rng(0), pad=4, flip=True
    )
    padded = np.pad(image[0, ..., 0], 4, mode="reflect")
    windows = {
        padded[i : i + 8, j : j + 8][:, ::step].tobytes(): (i, j, step)
        for i in range(9)
        for j in range(9)
        for step in (1, -1)
    }
    seen = [windows[crop.tobytes()] for crop in crops]
    # 2,000 draws of 162 windows miss a window with probability 7e-4.
    assert len(set(seen)) == len(windows)
    flipped = np.mean([step == -1 for *_, step in seen])
    # A window of a reflected image can be equal to a mirrored one. Still, half
    # of the images are mirrored.
    assert abs(flipped - 0.5) < 5 * 0.5 / np.sqrt(2000) + 0.05


def test_flips_alone_mirror_half_of_the_images():
    images = np.arange(8, dtype="uint8").reshape(1, 1, 8, 1).repeat(1000, 0)
    out = random_crop(images, np.random.default_rng(0), pad=0, flip=True)
    mirrored = (out[:, 0, 0, 0] == 7).mean()
    assert set(map(bytes, out)) == {bytes(range(8)), bytes(range(7, -1, -1))}
    assert abs(mirrored - 0.5) < 5 * 0.5 / np.sqrt(1000)


ALL = {"pad": 4, "flip": True, "cutout": 2, "mixup": 1.0}


def test_augmentation_repeats_by_seed_epoch_and_batch():
    def batch(seed, epoch, index):
        b = batches(training=True, augmentation=ALL, seed=seed)
        # The same image fifty times, so that the order does not matter.
        image = np.random.default_rng(0).integers(0, 256, (1, 6, 5, 1))
        b.images = image.repeat(50, 0)
        b.epoch = epoch
        return b[index][0]

    assert np.array_equal(batch(1, 2, 3), batch(1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(batch(1, 2, 3), batch(*other))


def test_cutout_blanks_a_square_that_may_leave_the_image():
    n, size = 4000, 4
    x = np.ones((n, 9, 7, 2), "float32")
    out = cutout(x, np.random.default_rng(0), size)
    assert (out[..., 0] == out[..., 1]).all() and (x == 1).all()
    blank = out[..., 0] == 0
    rows, columns = blank.any(2), blank.any(1)
    # The blank part is a product of an interval of rows and one of columns.
    assert (blank == rows[:, :, None] & columns[:, None, :]).all()
    for intervals, length in ((rows, 9), (columns, 7)):
        counts = intervals.sum(1)
        # Intervals have the length `size`, or less at an edge. A center at c
        # covers c - 2 ... c + 1, so centers 0, 1 and length - 1 are cut.
        assert set(counts) == {2, 3, 4}
        cut = (counts < 4).mean()
        expected = 3 / length
        error = np.sqrt(expected * (1 - expected) / n)
        assert abs(cut - expected) < 5 * error


def test_cutout_draws_a_square_by_hand():
    class Center:
        """A generator that centers the square on row 0, column 2."""

        def __init__(self):
            self.places = [np.array([[0]]), np.array([[2]])]

        def integers(self, low, high, size):
            return self.places.pop(0)

    (out,) = cutout(np.ones((1, 3, 5, 1), "float32"), Center(), 2)
    assert out[..., 0].tolist() == [
        [1, 0, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]


def test_mixup_mixes_images_and_labels_alike():
    x = np.eye(6, dtype="float32")[:, None, None, :]
    mixed, labels = mixup(x, x[:, 0, 0], np.random.default_rng(3), 1.0)
    assert np.allclose(mixed[:, 0, 0], labels)
    assert np.allclose(labels.sum(1), 1)
    shares = np.unique(labels.round(6))
    assert len(shares) <= 4  # 0, the share, 1 - share, and perhaps 1


def test_the_share_of_mixup_is_beta_distributed():
    rng, x = np.random.default_rng(0), np.eye(2, dtype="float32")
    shares = []
    while len(shares) < 2000:
        _, labels = mixup(x[:, None, None], x, rng, 0.4)
        if labels[0, 0] < 1:  # the permutation swapped the two
            shares.append(labels[0, 0])
    # Beta(.4, .4): mean 1/2, variance 1 / (4 * 1.8)
    std = np.sqrt(1 / 7.2)
    assert abs(np.mean(shares) - 0.5) < 5 * std / np.sqrt(2000)
    assert abs(np.std(shares) - std) < 0.02


def test_evaluation_is_never_augmented():
    b = batches(augmentation=ALL)
    assert np.array_equal(b[0][0], np.float32(b.images[:8]))


# --- normalization


def test_normalization_is_by_channel_and_float32():
    f = data.Preprocessing((1, 1), (10.0, 20.0), (2.0, 4.0)).normalize
    out = f(np.full((1, 1, 1, 2), 30, "uint8"))
    assert out.dtype == np.float32 and out.ravel().tolist() == [10.0, 2.5]


LEVELS = np.arange(256).reshape(1, 32, 8, 1).repeat(3, -1)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32"])
def test_arrays_and_tensors_of_any_type_are_normalized_alike(dtype):
    mean, std = preprocessing.PUBLISHED["cifar10"]
    f = data.Preprocessing((32, 8), mean, std).normalize
    expected = (LEVELS - np.array(mean)) / np.array(std)
    images = LEVELS.astype(dtype)
    for given in (images, keras.ops.convert_to_tensor(images)):
        out = f(given)
        assert keras.backend.standardize_dtype(out.dtype) == "float32"
        # The two constants, the difference and the quotient are rounded to
        # float32. Each rounding error is at most 2^-24 of a number that is at
        # most 255 / 62.1.
        error = np.abs(keras.ops.convert_to_numpy(out) - expected).max()
        assert error < 4 * 2**-24 * 255 / 62.1


@pytest.mark.tensorflow_only
def test_images_are_normalized_in_a_pipeline_of_tensorflow_too():
    import tensorflow as tf

    f = data.Preprocessing((32, 8), *preprocessing.PUBLISHED["cifar10"])
    f = f.normalize
    images = LEVELS.astype("uint8")
    (out,) = tf.data.Dataset.from_tensors(images).map(f).as_numpy_iterator()
    assert np.allclose(out, f(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean, std", [((1.0,), (1.0, 2.0)), ((1.0,), (0.0,))])
def test_impossible_normalization_is_refused(mean, std):
    with pytest.raises(ValueError, match="`mean` and `std` must"):
        data.Preprocessing((8, 8), mean, std)


def test_statistics_are_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 7, 3), "uint8")
    mean, std = preprocessing.channel_statistics(images)
    assert np.allclose(mean, images.mean((0, 1, 2)), atol=0.051)
    assert np.allclose(std, images.std((0, 1, 2)), atol=0.051)
    flat = np.full((2, 3, 3, 1), 7, "uint8")
    assert preprocessing.channel_statistics(flat) == ((7.0,), (1.0,))


def test_published_constants_do_not_depend_on_the_version():
    for name in ("cifar10", "cifar10:3.0.2", "cifar100/x:1.0.0"):
        assert data.published_statistics(name)[0] == (125.3, 123.0, 113.9)
    assert data.published_statistics("stl10") is None


def test_svhn_is_divided_by_255_and_cifar_has_one_set_of_constants():
    mean, std = preprocessing.PUBLISHED["svhn_cropped"]
    svhn = data.Preprocessing((1, 1), mean, std)
    pixel = np.full((1, 1, 3), 51, "uint8")
    assert svhn.normalize(pixel).max() == np.float32(0.2)
    assert (
        preprocessing.PUBLISHED["cifar10"]
        == preprocessing.PUBLISHED["cifar100"]
    )


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16), (1, 40)])
def test_images_are_fitted_by_their_central_part(shape):
    pytest.importorskip("tensorflow")
    image = np.zeros((*shape, 3), "uint8")
    side = min(shape)
    top, left = ((s - side) // 2 for s in shape)
    image[top : top + side, left : left + side] = 200
    fitted = data.fit_to_size(image, (8, 8)).numpy()
    assert fitted.shape == (8, 8, 3) and (fitted == 200).all()


def test_an_image_of_the_right_size_is_not_changed():
    pytest.importorskip("tensorflow")
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 1), "uint8")
    assert np.array_equal(data.fit_to_size(image, (10, 20)), image)
    # A wider image is cropped to its central 2 : 1 part.
    wide = np.pad(image, [(0, 0), (7, 7), (0, 0)])
    assert np.array_equal(data.fit_to_size(wide, (10, 20)), image)


# --- sources


def test_digits_are_complete_and_split_by_class():
    digits = data.load("digits")
    assert digits.splits == ("train", "test")
    (train, _), (test, labels) = (digits.arrays[s] for s in digits.splits)
    assert train.shape == (1437, 32, 32, 1)
    assert test.shape == (360, 32, 32, 1)
    assert train.dtype == np.uint8 and train.max() == 255
    assert digits.class_names == tuple("0123456789")
    counts = np.bincount(labels)
    assert counts.min() >= 35 and counts.max() <= 37
    again = data.load("digits")
    assert np.array_equal(test, again.arrays["test"][0])


def test_a_validation_split_is_held_out_class_by_class_and_always_alike():
    whole, held = data.load("digits"), data.load("digits", validation_split=0.2)
    assert held.splits == ("train", "test", "validation")
    counts = {s: np.bincount(held.labels(s)) for s in held.splits}
    every = np.bincount(whole.labels("train"))
    assert (counts["validation"] == (every * 0.2).round()).all()
    assert (counts["train"] + counts["validation"] == every).all()

    # Each image is in exactly one of the two splits.
    def content(images):
        return sorted(image.tobytes() for image in images)

    parts = [held.arrays[s][0] for s in ("train", "validation")]
    assert content(np.concatenate(parts)) == content(whole.arrays["train"][0])
    assert np.array_equal(held.arrays["test"][0], whole.arrays["test"][0])
    again = data.load("digits", validation_split=0.2)
    assert np.array_equal(parts[1], again.arrays["validation"][0])


def test_a_split_without_images_is_refused():
    with pytest.raises(data.DataError, match="at least one image in each"):
        data.load("digits", validation_split=0.001)
    with pytest.raises(data.DataError, match="Only TensorFlow Datasets has"):
        data.load("digits", validation_split="train[90%:]")


def test_npz_is_read(tmp_path):
    x = np.zeros((6, 8, 8), "uint8")  # no channel axis: one is added
    y = np.array([[0], [1], [2], [0], [1], [2]], "int32")
    np.savez(
        tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2]
    )
    dataset = data.load(str(tmp_path / "a.npz"))
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.labels("train").tolist() == [0, 1, 2, 0, 1, 2]
    assert Classification().class_names(dataset) == ("0", "1", "2")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x_test": None}, "Missing: x_test"),
        ({"x_train": np.zeros((6, 8, 8, 3), "float32")}, "must be uint8"),
        ({"y_train": np.zeros(5, int)}, "one label for each of the 6"),
        ({"y_train": np.eye(6, dtype=int)}, "not one-hot rows"),
        ({"y_train": np.zeros(6)}, "one whole number.*float64"),
        (
            {"x_test": np.zeros((2, 9, 8, 3), "uint8")},
            "must have the same shape",
        ),
        ({"y_train": np.full(6, -1)}, "must start from 0"),
        ({"y_test": np.array([0, 1])}, "every class must occur in training"),
    ],
)
def test_a_wrong_npz_is_explained(tmp_path, change, message):
    x, y = np.zeros((6, 8, 8, 3), "uint8"), np.zeros(6, int)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]}
    arrays = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(data.DataError, match=message):
        Classification().check_data(data.load(str(tmp_path / "a.npz")))


def test_npz_with_a_validation_split_is_read(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype="uint8")
    y = np.arange(9)
    arrays = {"x_train": x[:4], "y_train": y[:4], "x_test": x[4:6]}
    arrays |= {"y_test": y[4:6], "x_validation": x[6:], "y_validation": y[6:]}
    path = str(tmp_path / "a.npz")
    np.savez(path, **arrays)
    assert data.sources.has_own_validation(path)
    dataset = data.load(path)
    assert {split: dataset.size(split) for split in dataset.splits} == {
        "train": 4,
        "test": 2,
        "validation": 3,
    }
    np.testing.assert_array_equal(dataset.arrays["validation"][0], x[6:])
    np.testing.assert_array_equal(dataset.labels("validation"), y[6:])
    with pytest.raises(data.DataError, match="already has `x_validation`"):
        data.load(path, validation_split=0.5)
    del arrays["y_validation"]
    np.savez(path, **arrays)
    with pytest.raises(data.DataError, match="y_validation"):
        data.load(path)
    del arrays["x_validation"]
    np.savez(path, **arrays)
    assert not data.sources.has_own_validation(path)


def test_a_file_that_is_no_npz_is_explained(tmp_path):
    (tmp_path / "text.npz").write_text("x_train, y_train")
    np.savez(tmp_path / "whole.npz", x_train=np.zeros((99, 8, 8), "uint8"))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    for name in ("text", "cut", "empty", "array"):
        with pytest.raises(data.DataError, match="Cannot read `dataset`"):
            data.load(str(tmp_path / f"{name}.npz"))


def test_a_missing_npz_and_an_unknown_name_are_explained():
    with pytest.raises(data.DataError, match="Cannot read `dataset`"):
        data.load("nowhere.npz")
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(data.DataError, match="Received: dataset='cifar_10'"):
        data.load("cifar_10")
    with pytest.raises(
        data.DataError, match="only to data sets of TensorFlow Datasets"
    ):
        data.load("digits", image_size=64)


def test_absent_data_are_an_error_within_seconds(tmp_path, monkeypatch):
    """Without a network, or with one that hangs, TFDS retries for minutes."""
    pytest.importorskip("tensorflow_datasets")

    over = threading.Event()

    def hang(*args, **kwargs):
        over.wait(60)
        raise OSError("at last")

    def refuse(*args, **kwargs):
        raise OSError("no network")

    for behavior in (refuse, hang):
        monkeypatch.setattr(tfds.urllib.request, "urlopen", behavior)
        started = time.monotonic()
        with pytest.raises(data.DataError) as error:
            data.load("svhn_cropped", data_dir=str(tmp_path))
        assert time.monotonic() - started < 20
        message = str(error.value)
        assert str(tmp_path) in message and "ufldl.stanford.edu" in message
        assert "data_dir" in message and "digits" in message
    over.set()


def test_a_download_that_fails_is_explained(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    import tensorflow_datasets

    def fail(self, **kwargs):
        raise RuntimeError("checksum mismatch")

    monkeypatch.setattr(tfds, "_answers", lambda urls: [True])
    monkeypatch.setattr(
        tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", fail
    )
    with pytest.raises(data.DataError, match="checksum mismatch"):
        data.load("svhn_cropped", data_dir=str(tmp_path))


# --- real data sets


def test_cifar10_is_complete_and_its_normalization_is_published():
    cifar = prepared("cifar10")
    train, test = (cifar.arrays[split][0] for split in ("train", "test"))
    assert train.shape == (50_000, 32, 32, 3)
    assert test.shape == (10_000, 32, 32, 3)
    assert cifar.class_names[:2] == ("airplane", "automobile")
    constants = preprocessing.PUBLISHED["cifar10"]
    assert preprocessing.channel_statistics(train) == constants
    x = data.Preprocessing((32, 32), *constants).normalize(train[:10_000])
    assert np.allclose(x.mean((0, 1, 2), dtype="float64"), 0, atol=0.01)
    assert np.allclose(x.std((0, 1, 2), dtype="float64"), 1, atol=0.01)


def test_cifar10_splits_are_checked_and_sliced():
    require("cifar10")
    sliced = data.load(
        "cifar10",
        train_split="train[:100]",
        validation_split="train[100:130]",
        image_size=16,
    )
    sizes = {split: sliced.size(split) for split in sliced.splits}
    assert sizes == {"train": 100, "test": 10_000, "validation": 30}
    assert sliced.image_shape == (16, 16, 3)
    with pytest.raises(data.DataError, match="`test_split` must be made of"):
        data.load("cifar10", test_split="validation")


@pytest.mark.parametrize(
    "train, validation, test, wrong",
    [
        ("train", "train[90%:]", "test", "train"),
        ("train[:90%]", "test[:9]+train[80%:81%]", "test[9:]", "train"),
        ("train[:90%]", "train[89:]", "test", "train"),
        ("train", "test[:10]", "test[9:]", "test"),
        ("train", "test", "test", "test"),
    ],
)
def test_validation_images_must_not_be_trained_on_or_tested(
    train, validation, test, wrong
):
    pytest.importorskip("tensorflow_datasets")
    split = types.SimpleNamespace(num_examples=100)
    names = {"train": train, "validation": validation, "test": test}
    message = f"`validation_split` must not overlap `{wrong}_split`.*Did you"
    with pytest.raises(data.DataError, match=message):
        tfds.check_held_out(names, {"train": split, "test": split})


def test_slices_side_by_side_do_not_overlap():
    pytest.importorskip("tensorflow_datasets")
    split = types.SimpleNamespace(num_examples=101)
    names = {"train": "train[:90%]", "validation": "train[90%:]+test[:9]"}
    names["test"] = "test[9:]"
    tfds.check_held_out(names, {"train": split, "test": split})
    names = {"train": "train[:50]", "test": "train[:50]"}  # to overfit
    tfds.check_held_out(names, {"train": split})


def test_real_splits_are_compared():
    require("cifar10")
    with pytest.raises(data.DataError, match="must not overlap `train_split`"):
        data.load("cifar10", validation_split="train[90%:]")


def test_a_wrong_slice_is_named():
    require("cifar10")
    with pytest.raises(data.DataError, match="`test_split` must be made of sl"):
        data.load("cifar10", validation_split=0.1, test_split="test[:x]")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_split_without_labels_is_refused(monkeypatch, streamed):
    require("cifar10")
    from tensorflow_datasets.core import DatasetBuilder

    as_dataset = DatasetBuilder.as_dataset

    def unlabeled(self, split, **options):
        found = as_dataset(self, split=split, **options)
        if split != "test":
            return found
        return found.map(lambda example: {**example, "label": -1})

    monkeypatch.setattr(DatasetBuilder, "as_dataset", unlabeled)
    with pytest.raises(data.DataError, match="`test_split` must have labels"):
        data.load(
            "cifar10",
            train_split="train[:10]",
            image_size=32,
            streamed=streamed,
        )
