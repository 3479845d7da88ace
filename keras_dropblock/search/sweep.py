"""Sweeps: train a grid of recipes, with several seeds each."""

import dataclasses
import math
import pathlib
import sys
import traceback

import keras

from keras_dropblock import files
from keras_dropblock.errors import (
    DataError,
    KerasDropBlockError,
    RecipeError,
    WriteError,
)
from keras_dropblock.runs import Run
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.search import grids, heat_map, tables
from keras_dropblock.training import plan, trainer
from keras_dropblock.training.recipe import Recipe

# Keys that select the data. If one of them varies, missing data concern only
# some of the runs.
_DATA_KEYS = {
    "dataset",
    "data_dir",
    "train_split",
    "validation_split",
    "test_split",
    "image_size",
    "skip_broken",
    "augmentation",
}


def sweep(recipe, grid, *, workdir, seeds=3, verbose="auto"):
    """Train every point of a grid with several seeds, or resume a sweep.

    Points are compared by their scores on the validation split, which the
    recipe must have, since selecting a point on the test split would overfit
    it.

    Each run is a work directory of `trainer.fit`, named after the values of
    its point. Make the same call again to resume, or add values or seeds to
    train only the new runs. The data and networks of finished runs are not
    loaded again. All points are trained with one seed before the next seed.

    A run that fails is excluded from the means, and the sweep continues with
    the next run. The sweep stops at errors that would repeat in the next run:
    a full disk, an interrupt, data that are missing for every run, a bug.

    Args:
        recipe: `Recipe`. Its seed is the first.
        grid: dict from keys of a recipe to lists of values.
        workdir: folder of the runs. After each run, `sweep.csv` and
            `sweep.png` are written there, for the points of this grid and
            these seeds.
        seeds: number of runs of each point, int >= 1.
        verbose: as in `trainer.fit`.

    Returns:
        A tuple (`tables.Table`, dict from the name of each failed run to its
        error).

    Raises:
        RecipeError: before the first run, if a key or a value is invalid, or
            there is no validation split.
        WorkdirError: before the first run, if a folder belongs to another
            recipe.
        DataError: if the data of all runs are missing.
    """
    workdir = pathlib.Path(workdir)
    grid = grids.checked(recipe, grid)
    runs = grids.runs(recipe, grid, workdir, seeds)
    for run in runs:
        _require_validation(run.recipe)
    left = [run for run in runs if not _is_finished(run)]
    print(
        f"Points: {len(grids.points(grid))}, seeds: {seeds}, "
        f"runs: {len(runs)}, already finished: {len(runs) - len(left)}.",
        flush=True,
    )
    title = _title(recipe, grid)
    metrics = recipe.task.metrics
    failures = {}
    if len(left) < len(runs):
        table = _write(workdir, title, grid, metrics, runs, failures)
    for i, run in enumerate(left, 1):
        print(f"\nRun {i} of {len(left)}: {run.workdir.name}", flush=True)
        try:
            trainer.fit(run.recipe, run.workdir, verbose=verbose)
        except _errors_of_one_run() as error:
            if isinstance(error, WriteError) or (
                isinstance(error, DataError) and not _DATA_KEYS & {*grid}
            ):
                raise
            failures[run.workdir.name] = _report_failure(error)
        finally:
            # Without this, TensorFlow keeps every network in memory.
            keras.utils.clear_session()
        table = _write(workdir, title, grid, metrics, runs, failures)
    return table, failures


def _require_validation(recipe):
    if not plan.has_validation(recipe):
        raise RecipeError(
            "`validation_split` must be set to compare recipes: choosing by "
            "the test set overfits it. Use, for example, --set "
            "validation_split=0.1"
        )


def _is_finished(run):
    """Whether a run has its final scores.

    Raises:
        WorkdirError: if the folder belongs to another recipe.
    """
    path = run.workdir / workdirs.RECIPE
    if not path.exists():
        return False
    there, settled = Recipe.from_toml(path), plan.settled(run.recipe)
    workdirs.has_recipe(
        run.workdir,
        dataclasses.replace(
            settled,
            mean=settled.mean or there.mean,
            std=settled.std or there.std,
        ),
    )
    return (run.workdir / workdirs.METRICS).exists()


def _errors_of_one_run():
    """Types of errors that need not repeat in the next run."""
    kinds = (ArithmeticError, MemoryError, RuntimeError, ValueError)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kinds += (tf.errors.OpError,)  # for example, out of GPU memory
    return kinds


def _report_failure(error):
    """Print why a run failed, and return the reason as one line."""
    if isinstance(error, KerasDropBlockError):
        text = str(error)
    else:
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}".splitlines()[0]
    print(f"This run failed: {text}", file=sys.stderr, flush=True)
    return text


def _write(workdir, title, grid, metrics, runs, failures):
    """Write the table and the heat map of the runs finished so far.

    Adds finished runs with NaN or infinite scores to `failures`.
    """
    scores, failed = {}, {}
    for run in runs:
        name = run.workdir.name
        finished = (run.workdir / workdirs.METRICS).exists()
        if name not in failures and finished:
            score = _scores(run.workdir, metrics)
            bad = [m for m in metrics if not math.isfinite(score[m.name])]
            if bad:
                failures[name] = (
                    f"{bad[0].name} is {score[bad[0].name]}: it diverged."
                )
            else:
                scores.setdefault(run.point, []).append(score)
        if name in failures:
            failed[run.point] = failed.get(run.point, 0) + 1
    seeds = len(runs) // len(grids.points(grid))
    table = tables.Table.of(grid, seeds, metrics, scores, failed)
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(workdir / "sweep.csv", table.csv())
    heat_map.draw(table, workdir / "sweep.png", title)
    return table


def _scores(workdir, metrics):
    """Validation scores, parameters and seconds of a finished run."""
    run = Run(workdir)
    return {
        **{m.name: run.scores["validation"][m.name] for m in metrics},
        "seconds": run.seconds,
        "parameters": run.card.metrics["parameters"],
    }


def _title(recipe, grid):
    """The title of the heat map: what all runs of a sweep have in common."""
    images = pathlib.PurePath(recipe.dataset).name
    parts = {
        "model": recipe.model,
        "dataset": f"on {images}",
        "validation_split": "(validation)",
        "epochs": f"after {recipe.epochs} epochs",
    }
    return " ".join(text for key, text in parts.items() if key not in grid)


def remark(table):
    """A sentence on the best points of a sweep and what to do with them."""
    best = [
        ", ".join(f"{key}={grids.as_text(row[key])}" for key in table.grid)
        for row in table.best()
    ]
    if not best or len(table.rows) == 1:
        return (
            "There are no two points with all their seeds finished to compare."
        )
    return (
        f"Best mean validation {table.main.title}: {'; '.join(best)}. Train "
        "this point with new seeds and evaluate it on the test set once."
    )


def list_failures(failures):
    """The errors of a sweep, each once, with the runs that failed with it."""
    runs = {}
    for name, error in failures.items():
        runs.setdefault(error, []).append(name)
    lines = [f"error: runs that failed: {len(failures)}."]
    for error, names in runs.items():
        lines += [error, *(f"  {name}" for name in names)]
    return "\n".join(lines)
