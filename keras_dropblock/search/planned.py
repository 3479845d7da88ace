"""Runs of a search: trained in their work directories, or only read."""

import contextlib
import dataclasses
import math
import pathlib
import re
import sys
import time
import traceback

import keras
import optuna

from keras_dropblock.errors import (
    DataError,
    KerasDropBlockError,
    WorkdirError,
    WriteError,
)
from keras_dropblock.runs import Run
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.search.space import as_text
from keras_dropblock.training import plan, trainer
from keras_dropblock.training.recipe import Recipe

# Keys that select the data. If one of them varies, missing data concern only
# some of the trials.
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


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One recipe of a search and its work directory."""

    recipe: Recipe
    workdir: pathlib.Path


def train(run, space, **options):
    """Train a run, or resume it. A finished run is not loaded.

    Args:
        run: `PlannedRun`.
        space: dict whose keys vary in the search.
        **options: of `trainer.fit`.

    Raises:
        TrialError: for an error that other runs may not have.
    """
    if is_finished(run):
        return
    _wait_until_free(run.workdir)
    try:
        with _errors_of_one_trial(space):
            trainer.fit(run.recipe, run.workdir, **options)
    finally:
        # Without this, TensorFlow keeps every network in memory.
        keras.utils.clear_session()


def read_scores(run, split):
    """The scores of a finished run on a split, its parameters and seconds.

    Raises:
        TrialError: if a score is NaN or infinite.
    """
    found = Run(run.workdir)
    scores = found.scores if split == "test" else found.scores[split]
    metrics = run.recipe.task.metrics
    for metric in metrics:
        if not math.isfinite(scores[metric.name]):
            raise TrialError(
                f"{metric.name} is {scores[metric.name]}: it diverged."
            )
    return {
        **{metric.name: scores[metric.name] for metric in metrics},
        "seconds": found.seconds,
        "parameters": found.card.metrics["parameters"],
    }


class TrialError(KerasDropBlockError):
    """An error of one trial. Other trials may succeed."""


@contextlib.contextmanager
def _errors_of_one_trial(space):
    """A context that converts errors of a single trial to `TrialError`."""
    kinds = (ArithmeticError, MemoryError, RuntimeError, ValueError)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kinds += (tf.errors.OpError,)  # for example, out of GPU memory
    try:
        yield
    except (
        optuna.TrialPruned,
        optuna.exceptions.UpdateFinishedTrialError,
        WriteError,
    ):
        raise
    except kinds as error:
        if isinstance(error, DataError) and not _DATA_KEYS & {*space}:
            raise
        raise TrialError(_report_failure(error)) from error


def _report_failure(error):
    """Print why a run failed, and return the reason as one line."""
    if isinstance(error, KerasDropBlockError):
        text = str(error)
    else:
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}".splitlines()[0]
    print(f"This trial failed: {text}", file=sys.stderr, flush=True)
    return text


def is_finished(run):
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


def _wait_until_free(workdir, pause=2.0):
    """Wait while a worker that lost this trial still finishes an epoch."""
    while (workdir / workdirs.RECIPE).exists():
        try:
            with workdirs.locked(workdir):
                return
        except WorkdirError as error:
            print(f"{error} Waiting.", flush=True)
            time.sleep(pause)


def shown_values(values):
    """`key=value, ...` for messages."""
    return ", ".join(f"{key}={as_text(v)}" for key, v in values.items())


def folder_name(recipe, values):
    """`key=value,...`, in an order that depends only on the recipe's keys."""
    order = list(recipe.flat())
    parts = []
    for key in sorted(values, key=order.index):
        text = re.sub(r"[^\w.+-]+", "-", as_text(values[key]))
        parts.append(f"{key}={text.strip('-') or 'none'}")
    return ",".join(parts)
