"""Small runs, for the tests of training, stopping and resuming."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_dropblock import data, files, hub, models
from keras_dropblock.training import evaluation, trainer
from keras_dropblock.training.recipe import Recipe

COMMIT = "0123456789012345678901234567890123456789"


class Stop(Exception):
    """An error that stands for the end of the process."""


def write_quadrants(path):
    """Four classes of 16 x 16 images that differ in brightness by quadrant."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 100), ("test", 43)):
        y = rng.integers(0, 4, n)
        x = rng.integers(0, 100, (n, 16, 16, 3))
        for i, label in enumerate(y):
            row, column = divmod(int(label), 2)
            x[i, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 120
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x.astype("uint8"), y
    np.savez(path, **arrays)


def write_noise(path):
    """Write a .npz file of noise images of 8 x 12 pixels, in four classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 40), ("test", 12)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 8, 12, 1), "uint8")
        arrays[f"y_{split}"] = np.arange(n) % 4
    np.savez(path, **arrays)


def small(npz, *changes):
    """A recipe of three epochs with five steps each."""
    return Recipe().override(
        [
            "model=WRN-10-1",
            f"dataset={npz}",
            "epochs=3",
            "batch_size=20",
            "keep_prob=0.8",
            "block_size=3",
            "dropout=0.1",
            "learning_rate_drops=[3]",
            "augmentation=crop_flip",
            *changes,
        ]
    )


def change(path, function):
    """Change a JSON file of a run."""
    content = json.loads(path.read_text())
    function(content)
    files.write_json(path, content)


def commit(value):
    """What `change` needs to change the commit in `run.json`."""

    def into(info):
        info["sessions"][-1]["commit"] = value

    return into


MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def card(image_shape=(32, 32, 3), class_names=(), **changes):
    """A card for images that are normalized like CIFAR-10."""
    channels = image_shape[-1]
    preprocessing = data.Preprocessing(
        image_shape[:2],
        MEAN[:channels],
        STD[:channels],
        changes.pop("crop_fraction", 1.0),
    )
    return hub.Card("tested", preprocessing, tuple(class_names), **changes)


def write_untrained(workdir, recipe, image_shape, class_names):
    """Write the files that `evaluation.load_run` reads, without training.

    Returns:
        The model whose weights are in the work directory.
    """
    workdir.mkdir(parents=True)
    recipe.write(workdir / "recipe.toml")
    (workdir / "run.json").write_text("{}")
    builder, arguments = models.notation.parse(recipe.model)
    written = card(
        image_shape,
        class_names,
        crop_fraction=recipe.crop_fraction,
        network=recipe.model,
        builder=builder,
        arguments={
            **arguments,
            "input_shape": list(image_shape),
            "num_classes": len(class_names),
        },
    )
    written.write(workdir)
    model = written.build()
    model.save_weights(workdir / "model.weights.h5")
    return model


def weights(workdir):
    model, _ = evaluation.load_run(workdir)
    return model.get_weights()


def rows(workdir):
    with open(workdir / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(workdir, other):
    """Check for bit-equal weights and an equal history, except the speed."""
    for a, b in zip(weights(workdir), weights(other), strict=True):
        assert np.array_equal(a, b)
    histories = rows(workdir), rows(other)
    for row in (*histories[0], *histories[1]):
        del row["images_per_second"]
    assert histories[0] == histories[1]


def assert_resumes(recipe, folder):
    """Check that a run that stops twice resumes to the same bits.

    It stops after its first epoch, and then inside its last one.
    """
    whole, stopped = folder / "whole", folder / "stopped"
    trainer.fit(recipe, whole, verbose=0)
    for stop in (StopAfter(epoch=0), StopInside(epoch=recipe.epochs - 1)):
        with pytest.raises(Stop):
            trainer.fit(
                recipe,
                stopped,
                verbose=0,
                checkpoint_minutes=0,
                callbacks=[stop],
            )
    trainer.fit(recipe, stopped, verbose=0)
    assert_same(whole, stopped)


class StopAfter(keras.callbacks.Callback):
    """Raises `Stop` after an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Stop


class StopInside(keras.callbacks.Callback):
    """Raises `Stop` after the first step of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.now = False

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch == self.epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.now and batch == 1:
            raise Stop
