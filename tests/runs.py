"""Small runs, for the tests of training, stopping and resuming."""

import csv
import json

import numpy as np

from keras_dropblock import fitting, models
from keras_dropblock.recipes import Recipe


class Stop(Exception):
    """Stands for whatever ends a process."""


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


def small(npz, *changes):
    """Three epochs of five steps."""
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


def write_untrained(workdir, recipe, image_shape, class_names):
    """What `fitting.load_run` reads of a run; no step was trained.

    Returns:
        The model, whose weights the work directory has.
    """
    workdir.mkdir(parents=True)
    recipe.write(workdir / "recipe.toml")
    info = {"image_shape": image_shape, "class_names": class_names}
    (workdir / "run.json").write_text(json.dumps(info))
    model = models.from_recipe(recipe, image_shape, len(class_names))
    model.save_weights(workdir / "model.weights.h5")
    return model


def weights(workdir):
    model, _, _ = fitting.load_run(workdir)
    return model.get_weights()


def rows(workdir):
    with open(workdir / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(workdir, other):
    """The same weights to the bit, and the same history but for the speed."""
    for a, b in zip(weights(workdir), weights(other), strict=True):
        assert np.array_equal(a, b)
    histories = rows(workdir), rows(other)
    for row in (*histories[0], *histories[1]):
        del row["images_per_second"]
    assert histories[0] == histories[1]
