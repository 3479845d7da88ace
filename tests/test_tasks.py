"""Tasks: their keys, their metrics, and a custom task."""

import csv
import json

import keras
import numpy as np
import pytest

import keras_dropblock as kdb
import small_runs
from brightness import Brightness
from keras_dropblock import tasks
from keras_dropblock.errors import RecipeError

OWN = "brightness:Brightness"


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """A .npz file of noise images. The label is the brightness in [0, 1]."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 80), ("test", 24)):
        y = rng.random(n)
        x = rng.integers(0, 40, (n, 12, 12, 1)) + (200 * y)[:, None, None, None]
        arrays |= {f"x_{split}": x.astype("uint8"), f"y_{split}": y}
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    np.savez(path, **arrays)
    return path


def recipe(path, *changes):
    return kdb.Recipe().override(
        [
            f"task={OWN}",
            f"dataset={path}",
            "model=WRN-10-1",
            "epochs=12",
            "batch_size=16",
            "learning_rate=0.05",
            "learning_rate_drops=[]",
            "validation_split=0.2",
            *changes,
        ]
    )


class Shared:
    """A model on several replicas: each needs a part of what it predicts."""

    replicas, num_classes = 3, 2

    def predict(self, images, batch_size, verbose):
        count = len(images)
        assert batch_size == count and count % self.replicas == 0
        if self.masks:
            return np.zeros((*images.shape[:3], 2), "float32")
        return {
            "boxes": np.zeros((count, 5, 4), "float32"),
            "confidence": np.zeros((count, 5), "float32"),
            "labels": np.zeros((count, 5), int),
            "num_detections": np.full(count, 1),
        }

    def normalize(self, images):
        return images.astype("float32")

    def read(self, index):
        images = np.zeros((6, 16, 24, 3), "uint8")
        if self.masks:
            return images, np.zeros((6, 16, 24), "uint8")
        boxes = np.tile(np.float32([2, 3, 9, 9]), (6, 5, 1))
        return images, {"boxes": boxes, "labels": np.zeros((6, 5), int)}


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_pictures_of_an_epoch_are_predicted_in_whole_batches(name, tmp_path):
    """Four images of a batch would leave one of three replicas without any."""
    shared = Shared()  # stands for the model and for the batches
    shared.masks = name == "segmentation"
    card = small_runs.card((16, 24, 3), ("a", "b"), task=name)
    path = tmp_path / "epoch.png"
    tasks.find(name)().draw_epoch(shared, shared, card, path)
    rows = keras.utils.img_to_array(keras.utils.load_img(path)).shape[0] / 16
    assert 4 <= rows < 5  # images are separated by lines


def test_a_custom_task_trains_scores_loads_and_predicts(bright, tmp_path):
    workdir = tmp_path / "run"
    scores = kdb.fit(recipe(bright, "delta=0.5"), workdir, verbose=0)
    # Always predicting the mean of uniform labels has a mean error of 1/4.
    assert scores["mae"] < 0.2 and scores["images"] == 24
    assert scores["validation"]["images"] == 16
    assert kdb.evaluate(workdir) == {
        key: scores[key] for key in ("mae", "images")
    }
    with open(workdir / "history.csv", newline="") as file:
        header = next(csv.reader(file))
    assert {"mae", "validation_mae", "validation_loss"} <= {*header}
    model = kdb.load(workdir)
    assert model.card.task == OWN and model.card.class_names == ()
    images = np.full((2, 12, 12, 1), 60, "uint8")
    images[1] = 200
    dark, light = kdb.predict(model, images)
    assert dark < light
    if keras.backend.backend() == "tensorflow":
        kdb.export(model, tmp_path / "exported")
    from test_report import Page, page

    written = Page(page.write([workdir], tmp_path / "report.html"))
    heading, row = written.tables[0]
    assert f"{OWN}, test split" in written.text
    assert heading[3:] == ["mean absolute error"]
    assert row[3] == f"{scores['mae']:.4f}"


def test_its_keys_are_keys_of_the_recipe(bright, tmp_path):
    changed = recipe(bright, "delta=0.5")
    assert changed.task == Brightness(delta=0.5)
    changed.write(tmp_path / "recipe.toml")
    assert kdb.Recipe.from_toml(tmp_path / "recipe.toml") == changed
    with pytest.raises(RecipeError, match="`delta` must be a number"):
        recipe(bright, "delta=steep")


def test_keys_of_another_task_are_refused(bright):
    with pytest.raises(RecipeError, match="is a key of task classification"):
        recipe(bright, "label_smoothing=0.1")
    with pytest.raises(RecipeError, match="unknown key `delta`"):
        kdb.Recipe().override(["delta=0.5"])


@pytest.mark.slow
def test_points_of_a_search_are_compared_by_its_metric(bright, tmp_path):
    pytest.importorskip("optuna")
    from keras_dropblock.search import session, settings

    found = session.search(
        recipe(bright, "epochs=1"),
        {"delta": [0.5, 1.0]},
        settings.Settings(sampler="grid"),
        workdir=tmp_path,
        verbose=0,
    )
    table = found.table
    assert not found.failures and table.main.name == "mae"
    lowest = min(row["mae_mean"] for row in table.rows)
    assert [row["mae_mean"] for row in table.best()] == [lowest]
    assert "mean absolute error" in table.markdown()


def test_a_task_that_cannot_be_found_is_an_error_that_says_why():
    for name, text in (
        ("clasification", "Did you mean classification?"),
        ("nowhere:Task", "No module named"),
        ("brightness:Darkness", "Darkness"),
        ("brightness:np", "must be a subclass"),
    ):
        with pytest.raises(RecipeError, match="(?s)`task`.*" + text):
            tasks.find(name)


def test_metrics_know_their_unit_and_direction():
    metric = tasks.Classification.metrics[0]
    assert metric.heading == "accuracy, %" and metric.text(0.8783) == "87.83"
    assert metric.higher_is_better
    assert metric.curve_title == "error, %"
    assert metric.curve_value(0.75) == 25.0
    nll = {m.name: m for m in tasks.Classification.metrics}["nll"]
    assert nll.curve_value(0.5) == 0.5 and not nll.higher_is_better


def test_a_finished_runs_card_has_the_tasks_scores(bright, tmp_path):
    kdb.fit(recipe(bright, "epochs=1"), tmp_path / "run", verbose=0)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert card["metrics"]["n"] == 1
    assert card["metrics"]["scores"]["mae"]["mean"] == scores["mae"]
