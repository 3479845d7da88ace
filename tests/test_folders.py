"""Folders of images as data sets."""

import keras
import numpy as np
import pytest

import keras_dropblock as kdb
from keras_dropblock import data
from keras_dropblock.errors import DataError
from keras_dropblock.training import plan

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="TensorFlow reads the files"
)
COLORS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (210, 20, 30)}


def write(folder, count, size=(20, 14), formats=("png", "jpg")):
    """Write `count` images of each color, alternately as JPEG and PNG."""
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = rng.integers(0, 30, (*size, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype("uint8")
            path = folder / name / f"{i:02}.{formats[i % len(formats)]}"
            pillow.fromarray(pixels).save(path)


def test_each_split_may_have_its_own_folder(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        write(tmp_path / split, count)
    dataset = data.load(f"folder:{tmp_path}", image_size=8)
    assert dataset.class_names == ("blue", "green", "red")
    assert dataset.image_shape == (8, 8, 3)
    assert {split: dataset.size(split) for split in dataset.splits} == {
        "train": 12,
        "validation": 6,
        "test": 9,
    }
    images, labels = dataset.arrays["test"]
    means = images.mean((1, 2))
    for image, label in zip(means, labels, strict=True):
        color = list(COLORS.values())[
            sorted(COLORS).index(("blue", "green", "red")[label])
        ]
        assert np.abs(image - np.array(color)).max() < 35


def test_one_folder_is_divided_class_by_class_and_always_alike(tmp_path):
    write(tmp_path, 10)
    load = {"test_split": 0.2, "validation_split": 0.25, "image_size": 8}
    first, second = (data.load(f"folder:{tmp_path}", **load) for _ in range(2))
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        assert np.bincount(first.labels(split)).tolist() == [count] * 3
        assert np.array_equal(first.arrays[split][0], second.arrays[split][0])
    every = np.concatenate([first.arrays[s][0] for s in first.splits])
    assert len({image.tobytes() for image in every}) == 30


def test_a_broken_file_is_named_or_skipped_and_counted(tmp_path):
    write(tmp_path, 4)
    broken = tmp_path / "red" / "01.jpg"
    broken.write_bytes(broken.read_bytes()[:40])
    load = {"test_split": 0.25, "image_size": 8}
    with pytest.raises(DataError, match="red.01.jpg cannot be decoded"):
        data.load(f"folder:{tmp_path}", **load)
    dataset = data.load(f"folder:{tmp_path}", skip_broken=True, **load)
    assert sum(dataset.size(split) for split in dataset.splits) == 11
    (note,) = dataset.notes
    assert note.startswith("Skipped 1 files") and "01.jpg" in note


def test_streamed_images_are_those_of_the_files(tmp_path):
    write(tmp_path / "train", 3)
    write(tmp_path / "test", 2)
    dataset = data.load(
        f"folder:{tmp_path}", image_size=8, streamed=True, crop_fraction=1.0
    )
    whole = data.load(f"folder:{tmp_path}", image_size=8)
    preprocessing = data.Preprocessing((8, 8), (0,) * 3, (1,) * 3)
    batches = dataset.batches("test", 4, preprocessing, np.asarray)
    images = np.concatenate([batches.read(i)[0] for i in range(len(batches))])
    assert np.array_equal(images, whole.arrays["test"][0])
    assert np.array_equal(batches.labels, whole.labels("test"))
    training = dataset.batches(
        "train", 3, preprocessing, np.asarray, training=True, seed=1
    )
    orders = []
    for training.epoch in (0, 1, 0):
        read = [training.read(i)[1] for i in range(len(training))]
        orders.append(np.concatenate(read).tolist())
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("training", [True, False])
def test_a_streamed_file_that_is_broken_is_named(tmp_path, training):
    write(tmp_path, 4)
    broken = tmp_path / "red" / "01.jpg"
    broken.write_bytes(broken.read_bytes()[:40])
    dataset = data.load(
        f"folder:{tmp_path}", image_size=8, streamed=True, test_split=0.25
    )
    preprocessing = data.Preprocessing((8, 8), (0,) * 3, (1,) * 3)
    (split,) = (s for s in dataset.splits if broken in dataset.files[s][0])
    batches = dataset.batches(
        split, 1, preprocessing, np.asarray, training=training
    )
    with pytest.raises(DataError, match="red.01.jpg cannot be decoded"):
        for i in range(len(batches)):
            batches.read(i)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(DataError, match="PATH is an existing folder"):
        data.load(f"folder:{tmp_path / 'nowhere'}")
    write(tmp_path / "a", 2)
    with pytest.raises(DataError, match="no folder test. Set test_split"):
        data.load(f"folder:{tmp_path / 'a'}", image_size=8)
    write(tmp_path / "b", 1, size=(10, 10))
    write(tmp_path / "b", 2, size=(12, 10), formats=("jpg", "png"))
    with pytest.raises(DataError, match="differ in size.*Set image_size"):
        data.load(f"folder:{tmp_path / 'b'}", test_split=0.5)
    (tmp_path / "c" / "only").mkdir(parents=True)
    with pytest.raises(DataError, match="at least two classes"):
        data.load(f"folder:{tmp_path / 'c'}")
    (tmp_path / "a" / "empty").mkdir()
    with pytest.raises(DataError, match="empty must contain images"):
        data.load(f"folder:{tmp_path / 'a'}", test_split=0.5)
    with pytest.raises(DataError, match="`train_split` does not apply"):
        data.load(f"folder:{tmp_path / 'a'}", train_split="train[:9]")


def test_a_recipe_trains_on_a_folder(tmp_path):
    write(tmp_path / "colors", 12, size=(24, 20))
    recipe = kdb.Recipe().override(
        [
            f"dataset=folder:{tmp_path / 'colors'}",
            "model=WRN-10-1",
            "image_size=12",
            "test_split=0.25",
            "validation_split=0.25",
            "epochs=3",
            "batch_size=6",
            "learning_rate=0.05",
            "learning_rate_drops=[]",
        ]
    )
    scores = kdb.fit(recipe, tmp_path / "run", verbose=0)
    assert scores["images"] == 9 and scores["accuracy"] == 1.0
    assert scores["validation"]["images"] == 6
    model = kdb.load(tmp_path / "run")
    (((best, probability), *_),) = kdb.predict(
        model, [tmp_path / "colors" / "red" / "00.png"]
    )
    assert best == "red" and probability > 0.5


def test_a_class_named_train_is_not_the_training_split(tmp_path):
    write(tmp_path, 5)
    (tmp_path / "red").rename(tmp_path / "train")
    dataset = data.load(f"folder:{tmp_path}", test_split=0.2, image_size=8)
    assert dataset.class_names == ("blue", "green", "train")


def test_a_model_is_evaluated_at_the_size_of_its_card(tmp_path):
    write(tmp_path, 5)
    recipe = kdb.Recipe(
        dataset=f"folder:{tmp_path}",
        model="WRN-10-1",
        test_split=0.2,
        image_size=8,
        augmentation="none",
    )
    card = plan.resolve(recipe).card
    assert plan.recipe_of(card).image_size == 8
    digits = plan.resolve(kdb.Recipe(dataset="digits", model="WRN-10-1")).card
    assert plan.recipe_of(digits).image_size is None


def test_a_split_without_classes_is_an_error(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / split, 2)
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="val.* must contain images"):
        data.load(f"folder:{tmp_path}", image_size=8)
