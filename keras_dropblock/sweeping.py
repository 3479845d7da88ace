"""Sweeps: train a grid of recipes with several seeds each, into one table."""

import dataclasses
import functools
import json
import math
import pathlib
import sys
import traceback

import keras

from keras_dropblock import data, files, fitting, grids
from keras_dropblock.analysis import networks, plots, tables
from keras_dropblock.recipes import Recipe, RecipeError, usual_augmentation
from keras_dropblock.workdir import WorkdirError, require_recipe

# Keys that say which images there are, and whether they are read from disk.
_DATA_KEYS = {
    *("dataset", "data_dir", "train_split", "test_split", "image_size"),
    "augmentation",
}
# What says in its own words what is wrong with a run.
_PLAIN_ERRORS = (ArithmeticError, data.DataError, RecipeError, WorkdirError)


def sweep(recipe, grid, *, workdir, seeds=3, verbose="auto"):
    """Train every point of a grid with several seeds, or go on with that.

    Each run is a work directory of `fitting.fit` in a folder named after its
    values: the same call goes on where it stopped, and one with more values
    or seeds trains what is new. Neither data nor network of a run that is
    done are loaded again; the mean and std that its images gave are taken as
    they stand there. All points get their first seed before any its second.

    A run that fails is left out of the means, and the next one follows. What
    the next one would meet too ends the sweep: a full disk, a stop by hand,
    data that are not there for any run, a bug.

    Args:
        recipe: `Recipe`; its seed is the first.
        grid: dict from keys of a recipe to lists of values.
        workdir: folder of the runs. After each run it has `sweep.csv` and
            `sweep.png`, of the points of this grid with these seeds.
        seeds: runs of each point, int >= 1.
        verbose: as in `fitting.fit`.

    Returns:
        (`tables.Table`, dict from the name of each failed run to its error)

    Raises:
        RecipeError: before the first run, if a key or a value cannot be.
        WorkdirError: before the first run, if one of another recipe is there.
        data.DataError: if the data of all runs are not there.
    """
    workdir = pathlib.Path(workdir)
    grid = grids.checked(recipe, grid)
    runs = grids.runs(recipe, grid, workdir, seeds)
    left = [run for run in runs if not _is_done(run)]
    print(
        f"Points: {len(grids.points(grid))}, seeds: {seeds}, "
        f"runs: {len(runs)}, of them done already: {len(runs) - len(left)}.",
        flush=True,
    )
    title = _title(recipe, grid)
    failures = {}
    if len(left) < len(runs):
        table = _write(workdir, title, grid, runs, failures)
    for i, run in enumerate(left, 1):
        print(f"\nRun {i} of {len(left)}: {run.workdir.name}", flush=True)
        try:
            fitting.fit(run.recipe, run.workdir, verbose=verbose)
        except _errors_of_one_run() as error:
            if isinstance(error, data.DataError) and not _DATA_KEYS & {*grid}:
                raise
            failures[run.workdir.name] = _told(error)
        finally:
            # Else every network stays in memory, on TensorFlow.
            keras.utils.clear_session()
        table = _write(workdir, title, grid, runs, failures)
    return table, failures


def _is_done(run):
    """Whether a run has its scores; WorkdirError if it is another's."""
    path = run.workdir / "recipe.toml"
    if not path.exists():
        return False
    asked, there = run.recipe, Recipe.from_toml(path)
    published = data.normalise.published(asked.dataset)
    mean, std = published or (there.mean, there.std)
    resolved = dataclasses.replace(
        asked,
        augmentation=asked.augmentation or usual_augmentation(asked.dataset),
        mean=asked.mean or mean,
        std=asked.std or std,
    )
    require_recipe(run.workdir, resolved)
    return (run.workdir / "metrics.json").exists()


def _errors_of_one_run():
    """Kinds of errors that the next run may be free of."""
    kinds = (ArithmeticError, MemoryError, RuntimeError, ValueError)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kinds += (tf.errors.OpError,)  # a GPU that is full
    return kinds


def _told(error):
    """What is wrong with a run, in a line; printed with all that is known."""
    if isinstance(error, _PLAIN_ERRORS):
        text = str(error)
    else:
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}".splitlines()[0]
    print(f"This run failed: {text}", file=sys.stderr, flush=True)
    return text


def _write(workdir, title, grid, runs, failures):
    """Write what there is so far; adds runs without a number to failures."""
    scores, failed = {}, {}
    for run in runs:
        name = run.workdir.name
        if name not in failures and (run.workdir / "metrics.json").exists():
            score = _score(run.workdir)
            if math.isfinite(score["nll"]):
                scores.setdefault(run.point, []).append(score)
            else:
                failures[name] = f"nll is {score['nll']}: it diverged."
        if name in failures:
            failed[run.point] = failed.get(run.point, 0) + 1
    seeds = len(runs) // len(grids.points(grid))
    table = tables.Table.of(grid, seeds, scores, failed)
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(workdir / "sweep.csv", table.csv())
    plots.sweep_map(table, workdir / "sweep.png", title)
    return table


def _score(workdir):
    """Scores of a run that is done, its parameters and seconds."""
    metrics = json.loads((workdir / "metrics.json").read_text("utf-8"))
    info = json.loads((workdir / "run.json").read_text("utf-8"))
    # A session that was cut off does not say how long it took.
    seconds = [session.get("seconds") for session in info["sessions"]]
    return {
        "accuracy": metrics["accuracy"],
        "nll": metrics["nll"],
        "seconds": None if None in seconds else sum(seconds),
        "parameters": _parameters(
            Recipe.from_toml(workdir / "recipe.toml").model,
            tuple(info["image_shape"]),
            len(info["class_names"]),
        ),
    }


@functools.cache
def _parameters(notation, image_shape, num_classes):
    count, _ = networks.size(notation, image_shape, num_classes)
    return count


def _title(recipe, grid):
    """What all runs of a sweep have in common, for its picture."""
    images = pathlib.PurePath(recipe.dataset).name
    parts = {
        "model": recipe.model,
        "dataset": f"on {images}",
        "test_split": f"({recipe.test_split})",
        "epochs": f"after {recipe.epochs} epochs",
    }
    return " ".join(text for key, text in parts.items() if key not in grid)


def remark(recipe, table):
    """Which points of a sweep are best, and what that is worth."""
    best = [
        ", ".join(f"{key}={grids.as_text(row[key])}" for key in table.grid)
        for row in table.best()
    ]
    if not best or len(table.rows) == 1:
        return "There are no two points with all their seeds to choose from."
    text = f"Highest mean accuracy: {'; '.join(best)}."
    if recipe.test_split.startswith("train"):
        return f"{text} Score it on the test set once, and choose no more."
    return (
        f"{text} Who chooses it chooses by the test set, whose accuracy then "
        "flatters. Sets of TensorFlow Datasets can hold out training images: "
        "--set 'train_split=train[:90%]' --set 'test_split=train[90%:]'"
    )


def list_failures(failures):
    """What went wrong, each error once, with the runs that it befell."""
    runs = {}
    for name, error in failures.items():
        runs.setdefault(error, []).append(name)
    lines = [f"error: runs that failed: {len(failures)}."]
    for error, names in runs.items():
        lines += [error, *(f"  {name}" for name in names)]
    return "\n".join(lines)
