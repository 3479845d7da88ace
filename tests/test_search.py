"""Searches: resuming, failed trials, and the table of results."""

import csv
import dataclasses
import os
import pathlib
import subprocess
import sys

import keras
import pytest

import small_runs
from keras_dropblock import data
from keras_dropblock.errors import DivergedError, RecipeError, WorkdirError
from keras_dropblock.files import write_json
from keras_dropblock.training import trainer
from keras_dropblock.training.recipe import Recipe

pytest.importorskip("matplotlib")
pytest.importorskip("optuna")
from keras_dropblock.search import confirmation, outputs, results, session
from keras_dropblock.search.settings import Settings

ROOT = pathlib.Path(__file__).parents[1]
GRID = {"block_size": [1, 3], "keep_prob": [0.8, 0.9]}


@pytest.fixture
def npz(tmp_path):
    """A data set of noise with four classes."""
    small_runs.write_noise(tmp_path / "noise.npz")
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
        self.options = []
        self.errors = {}

    def __call__(self, recipe, workdir, verbose="auto", **options):
        self.trained.append(workdir.name)
        self.options.append(options)
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
        # The search must not use scores on the test split.
        test = scores | {"accuracy": 0.75 - recipe.seed / 64}
        if "confirmed" not in workdir.parts:
            test = {"accuracy": 0.0, "validation": scores}
        write_json(workdir / "metrics.json", test)


@pytest.fixture
def fit(monkeypatch):
    fake = FakeFit()
    monkeypatch.setattr(trainer, "fit", fake)
    # Drawing takes a second, and test_search_outputs tests it.
    monkeypatch.setattr(outputs.Outputs, "_draw", lambda *arguments: None)
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)
    return fake


def rows(workdir):
    with open(workdir / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def search(recipe, space, *, workdir, sampler="grid", verbose=0, **changes):
    retry = changes.pop("retry_failed", False)
    return session.search(
        recipe,
        space,
        Settings(sampler=sampler, **changes),
        workdir=workdir,
        retry_failed=retry,
        verbose=verbose,
    )


def test_a_run_of_a_search_equals_fit_and_is_not_loaded_again(
    npz, tmp_path, monkeypatch, capsys
):
    recipe = tiny(npz, keep_prob=0.8, block_size=3)
    alone = trainer.fit(recipe, tmp_path / "alone", verbose=0)
    # The earlier network of this process must not change the search.
    call = (tiny(npz, keep_prob=0.8), {"block_size": [3]})
    where = tmp_path / "search"
    found = search(*call, workdir=where)
    assert found.failures == {}
    (row,) = found.table.rows
    assert row["nll_mean"] == pytest.approx(
        alone["validation"]["nll"], rel=1e-4
    )
    assert row["seconds"] > 0
    assert (where / "block_size=3,seed=0" / "model.weights.h5").exists()
    # The best recipe is one that can be trained.
    best = Recipe.from_toml(where / "best.toml")
    assert best == recipe

    def never(*arguments, **options):
        raise AssertionError("a finished run was loaded")

    monkeypatch.setattr(trainer, "fit", never)
    monkeypatch.setattr(data, "load", never)
    before = (where / "trials.csv").read_bytes()
    search(*call, workdir=where)
    assert "1 of 1 trials are finished." in capsys.readouterr().out
    assert (where / "trials.csv").read_bytes() == before
    assert {path.name for path in where.iterdir() if path.is_file()} == {
        ".taking",
        "best.toml",
        "heat_map.png",
        "history.png",
        "search.html",
        "slices.png",
        "study.db",
        "trials.csv",
    }


def test_the_csv_of_a_small_grid(npz, tmp_path, fit):
    search(tiny(npz), GRID, workdir=tmp_path / "search", seeds=3)
    assert len(fit.trained) == 12
    # Accuracies 1/8, 3/16 and 1/4 have the standard deviation 1/16.
    first, *_, last = rows(tmp_path / "search")
    assert float(first.pop("accuracy_se")) == pytest.approx(0.0625 / 3**0.5)
    assert first == {
        "trial": "0",
        "block_size": "1",
        "keep_prob": "0.8",
        "state": "complete",
        "n": "3",
        "failed": "0",
        "accuracy_mean": "0.1875",
        "accuracy_std": "0.0625",
        "top5_mean": "1.0",
        "top5_std": "0.0",
        "top5_se": "0.0",
        "nll_mean": "2.0",
        "nll_std": "0.0",
        "nll_se": "0.0",
        "ece_mean": "0.25",
        "ece_std": "0.0",
        "ece_se": "0.0",
        "parameters": "7",
        "seconds": "3.5",
        "epochs": "3",
        "error": "",
    }
    assert (last["block_size"], last["accuracy_mean"]) == ("3", "0.4375")
    best = Recipe.from_toml(tmp_path / "search" / "best.toml")
    assert best == tiny(npz, block_size=3, keep_prob=0.8)
    text = (tmp_path / "search" / "best.toml").read_text()
    assert text.startswith("# Trial 2: validation accuracy 43.75 ± 6.25 %")


def test_the_same_seed_gives_the_same_trials_even_if_interrupted(
    npz, tmp_path, fit
):
    space = {"keep_prob": "float(0.5, 1.0)", "block_size": "int(1, 9)"}

    def points(name, *trials, seed=4):
        for count in trials:
            found = search(
                tiny(npz, seed=seed),
                space,
                workdir=tmp_path / name,
                sampler="random",
                trials=count,
            )
        return [(r["keep_prob"], r["block_size"]) for r in found.table.rows]

    whole = points("whole", 4)
    assert len({*whole}) == 4
    assert points("parts", 2, 4) == whole
    assert points("other", 1, seed=5) != whole[:1]


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
def test_errors_that_would_repeat_stop_the_search_and_the_same_call_resumes(
    npz, tmp_path, fit, error
):
    third = "keep_prob=0.8,block_size=3,seed=0"
    fit.errors[third] = error
    with pytest.raises(type(error)):
        search(tiny(npz), GRID, workdir=tmp_path / "s")
    assert [row["n"] for row in rows(tmp_path / "s")] == ["1", "1", "0", "0"]
    stopped_after, fit.trained, fit.errors = fit.trained, [], {}
    assert stopped_after[2:] == [third]
    search(tiny(npz), GRID, workdir=tmp_path / "s")
    assert fit.trained == [third, "keep_prob=0.9,block_size=3,seed=0"]
    found = rows(tmp_path / "s")
    assert [row["n"] for row in found] == ["1"] * 4
    # The trial that was put back has kept its number, but not its place.
    assert [row["trial"] for row in found] == ["0", "1", "2", "4"]


def out_of_memory():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.errors.ResourceExhaustedError(None, None, "out of memory")
    return RuntimeError("out of memory")


def test_a_trial_that_fails_does_not_affect_the_others(
    npz, tmp_path, fit, capsys
):
    names = [f"block_size={b},seed=0" for b in (1, 3, 5, 7, 9, 11)]
    fit.errors = {
        names[0]: RecipeError("`dropblock_groups` must be"),
        names[1]: DivergedError("The loss is inf"),
        names[2]: out_of_memory(),
        names[3]: float("nan"),
        names[4]: WorkdirError("in use"),
    }

    def run(**options):
        space = {"block_size": "int(1, 11, step=2)"}
        return search(tiny(npz), space, workdir=tmp_path, **options)

    found = run()
    assert fit.trained == names
    kind = type(out_of_memory()).__name__
    assert found.failures == {
        0: "`dropblock_groups` must be",
        1: "The loss is inf",
        2: f"{kind}: out of memory",
        3: "nll is nan: it diverged.",
        4: "in use",
    }
    counts = [(r["n"], r["failed"]) for r in found.table.rows]
    assert counts == [(0, 1)] * 5 + [(1, 0)]
    assert [row["block_size"] for row in found.table.best()] == [11]
    error = capsys.readouterr().err
    assert "This trial failed: `dropblock_groups` must be\n" in error
    # Only the error of another library is printed with a traceback.
    assert error.count("Traceback") == 1
    # The same call does not repeat them.
    fit.trained, fit.errors = [], {}
    assert [*run().failures] == [0, 1, 2, 3, 4] and fit.trained == []
    # With the flag, those without scores are repeated.
    found = run(retry_failed=True)
    assert fit.trained == [*names[:3], names[4]]
    assert found.failures == {3: "nll is nan: it diverged."}
    assert [r["n"] for r in found.table.rows] == [1, 1, 1, 0, 1, 1]


def test_a_seed_that_fails_fails_its_trial(npz, tmp_path, fit):
    fit.errors["block_size=1,seed=1"] = DivergedError("The loss is inf")
    space = {"block_size": [1, 3]}
    found = search(tiny(npz), space, workdir=tmp_path, seeds=3)
    assert fit.trained == [
        "block_size=1,seed=0",
        "block_size=1,seed=1",
        *(f"block_size=3,seed={seed}" for seed in range(3)),
    ]
    assert [(r["n"], r["failed"]) for r in found.table.rows] == [(1, 1), (3, 0)]
    assert [row["block_size"] for row in found.table.best()] == [3]


def test_a_missing_data_set_fails_only_its_trials_if_data_sets_vary(
    tmp_path, fit
):
    fit.errors["dataset=b.npz,seed=0"] = data.DataError("not there")
    space = {"dataset": ["a.npz", "b.npz", "c.npz"]}
    found = search(tiny(""), space, workdir=tmp_path)
    assert len(fit.trained) == 3
    assert found.failures == {1: "not there"}


def test_adding_values_and_seeds_to_a_grid_trains_only_the_new_runs(
    npz, tmp_path, fit
):
    search(tiny(npz), {"block_size": [1]}, workdir=tmp_path)
    fit.trained = []
    space = {"block_size": [3, 1]}
    found = search(tiny(npz), space, workdir=tmp_path, seeds=2)
    assert fit.trained == [
        "block_size=3,seed=0",
        "block_size=3,seed=1",
        "block_size=1,seed=1",
    ]
    assert [row["block_size"] for row in found.table.rows] == [3, 1]
    assert [row["n"] for row in found.table.rows] == [2, 2]


def test_trials_count_the_whole_search(npz, tmp_path, fit):
    space = {"keep_prob": "float(0.5, 1.0)"}

    def run(trials):
        before = len(fit.trained)
        found = search(
            tiny(npz), space, workdir=tmp_path, sampler="tpe", trials=trials
        )
        assert found.finished == max(len(fit.trained), trials)
        return len(fit.trained) - before

    assert [run(2), run(2), run(3), run(2)] == [2, 0, 1, 0]
    assert fit.trained[:2] == ["trial=0000,seed=0", "trial=0001,seed=0"]
    # Fewer trials than points of a grid are its first points.
    found = search(tiny(npz), GRID, workdir=tmp_path, trials=3)
    assert [r["n"] for r in found.table.rows] == [1, 1, 1, 0]


def test_a_point_that_is_drawn_again_is_not_trained_again(npz, tmp_path, fit):
    found = search(
        tiny(npz),
        {"block_size": [1, 3]},
        workdir=tmp_path,
        sampler="random",
        trials=8,
    )
    assert len(fit.trained) == 2
    rows = found.table.rows
    assert sum(row["epochs"] for row in rows) == 2
    scores = {(row["block_size"], row["accuracy_mean"]) for row in rows}
    assert scores == {(1, 0.125), (3, 0.375)} and len(rows) == 8


def test_another_recipe_is_refused_before_the_first_trial(npz, tmp_path, fit):
    search(tiny(npz), {"block_size": [5]}, workdir=tmp_path)
    tpe = {"sampler": "tpe", "trials": 1, "workdir": tmp_path}
    search(tiny(npz), {"keep_prob": "float(0.5, 1)"}, **tpe)
    fit.trained = []
    for changed, message in (
        (tiny(npz, epochs=2), r"seed=0 belongs .* epochs \(1 there, 2 now\)"),
        (tiny(npz, mean=(1.0,)), "differs in mean"),
        (tiny(npz, augmentation="crop"), "differs in augmentation"),
    ):
        with pytest.raises(WorkdirError, match=message):
            search(changed, {"block_size": [1, 5]}, workdir=tmp_path)
    for recipe, space, more, message in (
        (tiny(npz, epochs=2), "float(0.5, 1)", {}, "epochs .1 there, 2 now"),
        (tiny(npz), "float(0.6, 1)", {}, "space .{'keep_prob': 'float.0.5, 1"),
        (tiny(npz), "float(0.5, 1)", {"seeds": 2}, "seeds .1 there, 2 now"),
    ):
        with pytest.raises(WorkdirError, match=f"another search.*{message}"):
            search(recipe, {"keep_prob": space}, **tpe, **more)
    assert fit.trained == []


def test_published_normalization_is_used_where_the_recipe_has_none(
    tmp_path, fit
):
    # The mean that the fake wrote is not that of CIFAR-10.
    recipe = tiny("cifar10", augmentation="none")
    search(recipe, {}, workdir=tmp_path)
    with pytest.raises(WorkdirError, match="differs in mean .* std"):
        search(recipe, {}, workdir=tmp_path)


@pytest.mark.parametrize(
    "space, settings, message",
    [
        ({"block_size": [1, 0]}, {}, "--space: `block_size` must be >= 1"),
        ({"seed": [1]}, {}, "--space: `seed` cannot vary"),
        ({"lr": [0.1]}, {}, "--space: unknown key `lr`"),
        ({"keep_prob": "float(0.5, 1)"}, {}, "must have a step or a list"),
        ({"epochs": [1, 2]}, {"pruner": "median"}, "`epochs` cannot vary"),
        ({}, {"sampler": "tpe"}, "`trials` must be given with sampler tpe"),
        ({}, {"sampler": "best"}, "`sampler` must be one of tpe, random, grid"),
        ({}, {"seeds": 0}, "`seeds` must be >= 1"),
        ({}, {"confirm": -1}, "`confirm` must be >= 0"),
        ({}, {"confirm_seeds": 2**32}, "`seed` must be in .*Set a lower `seed"),
    ],
)
def test_a_wrong_search_writes_no_files(
    npz, tmp_path, fit, space, settings, message
):
    with pytest.raises(RecipeError, match=message):
        search(tiny(npz), space, workdir=tmp_path / "new", **settings)
    assert fit.trained == [] and not (tmp_path / "new").exists()


def test_a_recipe_without_a_validation_split_is_refused(npz, tmp_path, fit):
    recipe = tiny(npz, validation_split=None)
    with pytest.raises(RecipeError, match="choosing by the test set overfits"):
        search(recipe, GRID, workdir=tmp_path / "new")
    space = {"validation_split": [0.1, 0.2]}
    search(recipe, space, workdir=tmp_path / "new")
    assert len(fit.trained) == 2
    # A folder of images may contain the folder `val`.
    (tmp_path / "images" / "val").mkdir(parents=True)
    of_folder = tiny(f"folder:{tmp_path / 'images'}", validation_split=None)
    search(of_folder, {}, workdir=tmp_path / "folder")


def test_the_remark_names_the_best_points_and_the_next_step(tmp_path, fit):
    remark = search(tiny("mnist"), GRID, workdir=tmp_path).remark()
    assert remark.startswith("Best mean validation accuracy: block_size=3, ")
    assert "block_size=3, keep_prob=0.8; block_size=3, keep_" in remark
    assert "Of 4 points, this one is the best partly by chance" in remark
    one = search(tiny("mnist"), {}, workdir=tmp_path / "1").remark()
    assert "no two points" in one


def test_the_best_points_are_confirmed_with_new_seeds_on_the_test_set(
    npz, tmp_path, fit
):
    options = {"seeds": 2, "confirm": 2, "confirm_seeds": 3}
    space = {"block_size": [1, 3, 5], "keep_prob": [0.9]}
    recipe = tiny(npz, seed=4)
    found = search(recipe, space, workdir=tmp_path, **options)
    # Points with the highest accuracy, seeds that the search has not used.
    names = [
        f"keep_prob=0.9,block_size={size},seed={seed}"
        for seed in (6, 7, 8)
        for size in (5, 3)
    ]
    assert fit.trained[6:] == names
    for name, options_of_fit in zip(names, fit.options[6:], strict=True):
        trained = Recipe.from_toml(
            tmp_path / "confirmed" / name / "recipe.toml"
        )
        assert trained.validation_split is None
        # The test set is not evaluated after each epoch.
        assert options_of_fit["score_epochs"] is False
    with open(tmp_path / "confirmed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["block_size"] for row in rows] == ["5", "3"]
    assert {row["looked_at"] for row in rows} == {"3"}
    assert {row["n"] for row in rows} == {"3"}
    # Seeds 6, 7 and 8: 0.75 - 7 / 64, with a standard deviation of 1 / 64.
    assert float(rows[0]["accuracy_mean"]) == pytest.approx(0.640625)
    assert float(rows[0]["accuracy_std"]) == pytest.approx(1 / 64)
    # Seeds 4 and 5 on the validation split: 5 / 8 + 4.5 / 16.
    assert float(rows[0]["validation"]) == pytest.approx(0.90625)
    text = found.confirmation.text()
    assert "**64.06 ± 1.56**" in text and "the best of 3 on the val" in text
    assert "Confirmed on the test set" in (tmp_path / "search.html").read_text(
        "utf-8"
    )
    # The same call only reads them, and another one adds what is missing.
    fit.trained = []
    search(recipe, space, workdir=tmp_path, **options)
    assert fit.trained == []
    search(recipe, space, workdir=tmp_path, **options | {"confirm": 3})
    assert fit.trained == [
        f"keep_prob=0.9,block_size=1,seed={seed}" for seed in (6, 7, 8)
    ]


def test_the_whole_training_set_includes_the_images_held_out():
    whole = confirmation.whole_training_set(
        Recipe(train_split="train[:90%]", validation_split="train[90%:]")
    )
    assert whole == Recipe(train_split="train[:90%]+train[90%:]")
    whole = confirmation.whole_training_set(Recipe(validation_split=0.1))
    assert whole == Recipe()


def test_a_folder_of_validation_images_stays_held_out(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
    recipe = Recipe(dataset=f"folder:{tmp_path}")
    held_out = dataclasses.replace(recipe, validation_split="validation")
    assert confirmation.whole_training_set(held_out) == recipe


def test_failures_are_listed_by_their_error():
    failures = {3: "nll is nan", 5: "in use", 12: "nll is nan"}
    assert results.list_failures(failures).splitlines() == [
        "error: trials that failed: 3.",
        "nll is nan",
        "  trials 3, 12",
        "in use",
        "  trials 5",
    ]


@pytest.mark.slow
def test_two_commands_with_the_same_folder_share_one_search(npz, tmp_path):
    (tmp_path / "base.toml").write_text(tiny(npz).to_toml())
    where = tmp_path / "search"
    command = [
        sys.executable,
        ROOT / "training" / "search.py",
        f"--recipe={tmp_path / 'base.toml'}",
        "--set=epochs=2",
        "--set=learning_rate_drops=[]",
        "--space=keep_prob=float(0.6, 0.9, step=0.1)",
        "--space=block_size=choice(1, 3)",
        "--sampler=grid",
        "--pruner=hyperband",
        f"--workdir={where}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    workers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    try:
        assert [worker.wait(240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    with open(where / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    points = {(row["keep_prob"], row["block_size"]) for row in rows}
    assert len(rows) == len(points) == 8
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert (where / "best.toml").exists() and (where / "search.html").exists()


def test_the_command_prints_its_table_and_fails_if_a_trial_did(
    npz, tmp_path, fit
):
    where = tmp_path / "search"
    space = {"dropblock_groups": [[3]], "dataset": [npz]}
    search(tiny(npz), space, workdir=where)
    (tmp_path / "base.toml").write_text(
        tiny(npz).to_toml()
        + """
        [search]
        sampler = "tpe"
        seeds = 1
        [search.space]
        dropblock_groups = "choice([3])"
        """
    )
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "training" / "search.py",
            f"--recipe={tmp_path / 'base.toml'}",
            "--set",
            "keep_prob=0.9",
            "--set",
            "keep_prob=1.0",
            "--space",
            f"dataset=['{npz}', 'missing.npz']",
            "--sampler=grid",
            f"--workdir={where}",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 3, result.stderr
    assert (
        f"| [3] | {npz} | 1 | **87.50** | 100.00 | 2.0000 | 25.00 | 7 | 4 |"
        in result.stdout
    )
    assert (where / "heat_map.png").exists()
    assert "| [3] | missing.npz | 0 (1 failed) | – | – |" in result.stdout
    assert "  trials 1\n" in result.stderr
    assert "Cannot read `dataset` missing.npz" in result.stderr
    assert "Traceback" not in result.stderr
