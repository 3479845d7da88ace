"""Sweeps: resuming, failed runs, and the table of results."""

import csv
import dataclasses
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import small_runs
from keras_dropblock import data
from keras_dropblock.errors import DivergedError, RecipeError, WorkdirError
from keras_dropblock.files import write_json
from keras_dropblock.search import heat_map
from keras_dropblock.search import sweep as sweeps
from keras_dropblock.training import trainer
from keras_dropblock.training.recipe import Recipe

pytest.importorskip("matplotlib")
ROOT = pathlib.Path(__file__).parents[1]
GRID = {"block_size": [1, 3], "keep_prob": [0.8, 0.9]}


@pytest.fixture
def npz(tmp_path):
    """A data set of noise with four classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 40), ("test", 12)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 8, 12, 1), "uint8")
        arrays[f"y_{split}"] = np.arange(n) % 4
    np.savez(tmp_path / "noise.npz", **arrays)
    return str(tmp_path / "noise.npz")


def tiny(npz, **changes):
    base = {
        "model": "WRN-10-1",
        "dataset": npz,
        "epochs": 1,
        "batch_size": 20,
        "validation_split": 0.25,
    }
    return Recipe(**(base | changes))


class FakeFit:
    """Writes the files of `trainer.fit` without training.

    Attributes:
        trained: names of the folders, in order.
        errors: dict from the name of a folder to an exception to raise there,
            or to the NLL to write.
    """

    def __init__(self):
        self.trained = []
        self.errors = {}

    def __call__(self, recipe, workdir, verbose="auto"):
        self.trained.append(workdir.name)
        error = self.errors.get(workdir.name, 2.0)
        if isinstance(error, BaseException):
            raise error
        workdir.mkdir(parents=True)
        dataclasses.replace(
            recipe, mean=(125.0,), std=(70.0,), augmentation="none"
        ).write(workdir / "recipe.toml")
        sessions = [{"seconds": 1.5}, {"seconds": 2.0}]
        write_json(workdir / "run.json", {"sessions": sessions})
        small_runs.card((8, 12, 1), "abcd", metrics={"parameters": 7}).write(
            workdir
        )
        scores = {
            "accuracy": recipe.block_size / 8 + recipe.seed / 16,
            "top5": 1.0,
            "nll": error,
            "ece": 0.25,
        }
        # Scores on the test split must not be used.
        write_json(
            workdir / "metrics.json",
            {"accuracy": 0.0, "validation": scores},
        )


@pytest.fixture
def fit(monkeypatch):
    fake = FakeFit()
    monkeypatch.setattr(trainer, "fit", fake)
    # Drawing takes half a second, and test_plots tests it.
    monkeypatch.setattr(heat_map, "draw", lambda *arguments: None)
    return fake


def rows(workdir):
    with open(workdir / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_of_a_sweep_equals_fit_and_is_not_loaded_again(
    npz, tmp_path, monkeypatch, capsys
):
    recipe = tiny(npz, keep_prob=0.8, block_size=3)
    alone = trainer.fit(recipe, tmp_path / "alone", verbose=0)
    # The earlier network of this process must not change the sweep.
    call = (tiny(npz, keep_prob=0.8), {"block_size": [3]})
    where = tmp_path / "sweep"
    table, failures = sweeps.sweep(*call, workdir=where, seeds=1, verbose=0)
    assert failures == {}
    assert table.rows[0]["nll_mean"] == pytest.approx(
        alone["validation"]["nll"], rel=1e-4
    )
    assert table.rows[0]["seconds"] > 0
    assert (where / "block_size=3,seed=0" / "model.weights.h5").exists()

    def never(*arguments, **options):
        raise AssertionError("a finished run was loaded")

    monkeypatch.setattr(trainer, "fit", never)
    monkeypatch.setattr(data, "load", never)
    before = (where / "sweep.csv").read_bytes()
    sweeps.sweep(*call, workdir=where, seeds=1)
    assert "runs: 1, already finished: 1." in capsys.readouterr().out
    assert (where / "sweep.csv").read_bytes() == before
    assert {path.name for path in where.iterdir()} == {
        "block_size=3,seed=0",
        "sweep.csv",
        "sweep.png",
    }


def test_the_csv_of_a_small_sweep(npz, tmp_path, fit):
    sweeps.sweep(tiny(npz), GRID, workdir=tmp_path / "sweep", seeds=3)
    assert len(fit.trained) == 12
    # Accuracies 1/8, 3/16 and 1/4 have the standard deviation 1/16.
    first, *_, last = rows(tmp_path / "sweep")
    assert first == {
        "block_size": "1",
        "keep_prob": "0.8",
        "n": "3",
        "failed": "0",
        "accuracy_mean": "0.1875",
        "accuracy_std": "0.0625",
        "top5_mean": "1.0",
        "top5_std": "0.0",
        "nll_mean": "2.0",
        "nll_std": "0.0",
        "ece_mean": "0.25",
        "ece_std": "0.0",
        "parameters": "7",
        "seconds": "3.5",
    }
    assert (last["block_size"], last["accuracy_mean"]) == ("3", "0.4375")


def test_all_points_get_a_seed_before_any_gets_the_next(npz, tmp_path, fit):
    sweeps.sweep(tiny(npz, seed=4), GRID, workdir=tmp_path / "s", seeds=2)
    seeds = [name[-1] for name in fit.trained]
    assert seeds == [*"44445555"]


class Stop(Exception):
    """An error that stands for the end of the process."""


@pytest.mark.parametrize(
    "error",
    [
        Stop(),
        KeyboardInterrupt(),
        OSError("no space left"),
        TypeError("a bug"),
        data.DataError("not there"),
    ],
)
def test_errors_that_would_repeat_stop_the_sweep_and_the_same_call_resumes(
    npz, tmp_path, fit, error
):
    third = "keep_prob=0.8,block_size=3,seed=0"
    fit.errors[third] = error
    with pytest.raises(type(error)):
        sweeps.sweep(tiny(npz), GRID, workdir=tmp_path / "s", seeds=1)
    assert [row["n"] for row in rows(tmp_path / "s")] == ["1", "1", "0", "0"]
    stopped_after, fit.trained, fit.errors = fit.trained, [], {}
    assert stopped_after[2:] == [third]
    sweeps.sweep(tiny(npz), GRID, workdir=tmp_path / "s", seeds=1)
    assert fit.trained == [third, "keep_prob=0.9,block_size=3,seed=0"]
    assert [row["n"] for row in rows(tmp_path / "s")] == ["1"] * 4


def out_of_memory():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.errors.ResourceExhaustedError(None, None, "out of memory")
    return RuntimeError("out of memory")


def test_a_run_that_fails_does_not_affect_the_others(
    npz, tmp_path, fit, capsys
):
    names = [f"block_size={b},seed={s}" for s in (0, 1) for b in (1, 3, 5)]
    fit.errors = {
        names[0]: RecipeError("`dropblock_groups` must be"),
        names[1]: DivergedError("The loss is inf"),
        names[2]: out_of_memory(),
        names[3]: float("nan"),
        names[4]: WorkdirError("in use"),
    }

    def sweep():
        grid = {"block_size": [1, 3, 5]}
        return sweeps.sweep(tiny(npz), grid, workdir=tmp_path, seeds=2)

    table, failures = sweep()
    assert fit.trained == names
    assert [*failures] == names[:5]
    kind = type(out_of_memory()).__name__
    assert failures[names[2]] == f"{kind}: out of memory"
    assert failures[names[3]] == "nll is nan: it diverged."
    assert [(r["n"], r["failed"]) for r in table.rows] == [
        (0, 2),
        (0, 2),
        (1, 1),
    ]
    assert table.best() == []
    error = capsys.readouterr().err
    assert "This run failed: `dropblock_groups` must be\n" in error
    # Only the error of another library is printed with a traceback.
    assert error.count("Traceback") == 1
    # Again: runs without scores are repeated, but not the one with the NaN.
    fit.trained, fit.errors = [], {}
    table, failures = sweep()
    assert fit.trained == [*names[:3], names[4]]
    assert [*failures] == [names[3]]
    assert [r["n"] for r in table.rows] == [1, 2, 2]


def test_a_missing_data_set_fails_only_its_runs_if_data_sets_vary(
    tmp_path, fit
):
    fit.errors["dataset=b.npz,seed=0"] = data.DataError("not there")
    grid = {"dataset": ["a.npz", "b.npz", "c.npz"]}
    _, failures = sweeps.sweep(tiny(""), grid, workdir=tmp_path, seeds=1)
    assert len(fit.trained) == 3
    assert failures == {"dataset=b.npz,seed=0": "not there"}


def test_adding_values_and_seeds_trains_only_the_new_runs(npz, tmp_path, fit):
    sweeps.sweep(tiny(npz), {"block_size": [1]}, workdir=tmp_path, seeds=1)
    fit.trained = []
    grid = {"block_size": [3, 1]}
    table, _ = sweeps.sweep(tiny(npz), grid, workdir=tmp_path, seeds=2)
    assert fit.trained == [
        "block_size=3,seed=0",
        "block_size=3,seed=1",
        "block_size=1,seed=1",
    ]
    assert [row["block_size"] for row in table.rows] == [3, 1]
    assert [row["n"] for row in table.rows] == [2, 2]


def test_another_recipe_is_refused_before_the_first_run(npz, tmp_path, fit):
    sweeps.sweep(tiny(npz), {"block_size": [5]}, workdir=tmp_path, seeds=1)
    fit.trained = []
    for changed, message in (
        (tiny(npz, epochs=2), r"seed=0 belongs .* epochs \(1 there, 2 now\)"),
        (tiny(npz, mean=(1.0,)), "differs in mean"),
        (tiny(npz, augmentation="crop"), "differs in augmentation"),
    ):
        with pytest.raises(WorkdirError, match=message):
            sweeps.sweep(
                changed, {"block_size": [1, 5]}, workdir=tmp_path, seeds=1
            )
    assert fit.trained == []


def test_published_normalization_is_used_where_the_recipe_has_none(
    tmp_path, fit
):
    # The mean that the fake wrote is not that of CIFAR-10.
    recipe = tiny("cifar10", augmentation="none")
    sweeps.sweep(recipe, {}, workdir=tmp_path, seeds=1)
    with pytest.raises(WorkdirError, match="differs in mean .* std"):
        sweeps.sweep(recipe, {}, workdir=tmp_path, seeds=1)


def test_a_wrong_grid_writes_no_files(npz, tmp_path, fit):
    for grid in ({"block_size": [1, 0]}, {"seed": [1]}, {"lr": [0.1]}):
        with pytest.raises(RecipeError, match="--grid"):
            sweeps.sweep(tiny(npz), grid, workdir=tmp_path / "new")
    assert fit.trained == [] and not (tmp_path / "new").exists()


def test_a_recipe_without_a_validation_split_is_refused(npz, tmp_path, fit):
    recipe = tiny(npz, validation_split=None)
    with pytest.raises(RecipeError, match="choosing by the test set overfits"):
        sweeps.sweep(recipe, GRID, workdir=tmp_path / "new")
    grid = {"validation_split": [0.1, 0.2]}
    sweeps.sweep(recipe, grid, workdir=tmp_path / "new", seeds=1)
    assert len(fit.trained) == 2
    # A folder of images may contain the folder `val`.
    (tmp_path / "images" / "val").mkdir(parents=True)
    of_folder = tiny(f"folder:{tmp_path / 'images'}", validation_split=None)
    sweeps.sweep(of_folder, {}, workdir=tmp_path / "folder", seeds=1)


def test_the_remark_names_the_best_points_and_the_next_step(tmp_path, fit):
    table, _ = sweeps.sweep(tiny("mnist"), GRID, workdir=tmp_path, seeds=1)
    remark = sweeps.remark(table)
    assert remark.startswith("Best mean validation accuracy: block_size=3, ")
    assert "block_size=3, keep_prob=0.8; block_size=3, keep_" in remark
    assert "evaluate it on the test set once" in remark
    one, _ = sweeps.sweep(tiny("mnist"), {}, workdir=tmp_path / "1", seeds=1)
    assert "no two points" in sweeps.remark(one)


def test_failures_are_listed_by_their_error():
    failures = {"a": "nll is nan", "b": "in use", "c": "nll is nan"}
    assert sweeps.list_failures(failures).splitlines() == [
        "error: runs that failed: 3.",
        "nll is nan",
        "  a",
        "  c",
        "in use",
        "  b",
    ]


def test_the_command_prints_its_table_and_fails_if_a_run_did(
    npz, tmp_path, fit
):
    sweeps.sweep(
        tiny(npz),
        {"dropblock_groups": [[3]]},
        workdir=tmp_path / "sweep",
        seeds=1,
    )
    tiny(npz).write(tmp_path / "base.toml")
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "training" / "sweep.py",
            f"--recipe={tmp_path / 'base.toml'}",
            "--set",
            "keep_prob=0.9",
            "--set",
            "keep_prob=1.0",
            "--grid",
            "dropblock_groups=[[3], [4]]",
            "--seeds=1",
            f"--workdir={tmp_path / 'sweep'}",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 3, result.stderr
    assert "already finished: 1." in result.stdout
    assert (
        "| [3] | 1 | **87.50** | 100.00 | 2.0000 | 25.00 | 7 | 4 |"
        in result.stdout
    )
    assert (tmp_path / "sweep" / "sweep.png").exists()
    assert "| [4] | 0 (1 failed) | – | – | – | – | – | – |" in result.stdout
    assert "  dropblock_groups=4,seed=0\n" in result.stderr
    assert "`dropblock_groups` must be a tuple of some of (1," in result.stderr
    assert "Traceback" not in result.stderr
