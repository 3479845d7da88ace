"""A trial: the runs of one point of a search space, one for each seed."""

import contextlib
import dataclasses
import math
import pathlib
import re
import statistics
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
from keras_dropblock.search.pruning import ReportEpochs, frozen
from keras_dropblock.search.space import as_text
from keras_dropblock.search.storage import number_of, patiently
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


@dataclasses.dataclass(frozen=True)
class Objective:
    """Trains the runs of a trial, and returns the mean of their scores.

    A run is a work directory of `trainer.fit`. One that exists is resumed,
    and a finished one is only read.

    Attributes:
        recipe: `Recipe`. Its seed is the first.
        space: dict from key to `Choice` or `Range`.
        workdir: `pathlib.Path` of the search.
        seeds: runs of each trial.
        named_by_values: whether the folders are named after the values. They
            are then found again by a search with more values or seeds.
            Otherwise they are named after the trial's number.
        verbose: as in `trainer.fit`.
    """

    recipe: Recipe
    space: dict
    workdir: pathlib.Path
    seeds: int
    named_by_values: bool
    verbose: int | str = "auto"

    def __call__(self, trial):
        """Run a trial.

        Raises:
            optuna.TrialPruned: if the pruner stops it.
            TrialError: for an error that need not repeat in other trials.
        """
        values = self.values(trial)
        number = number_of(frozen(trial))
        print(f"\nTrial {number}: {shown_values(values)}", flush=True)
        scores = []
        for run in self.runs(number, values):
            report = ReportEpochs(trial, run) if not scores else None
            scores.append(self._scores(run, report))
            patiently(trial.set_user_attr, "scores", scores)
        return statistics.fmean(score[self.main.name] for score in scores)

    @property
    def main(self):
        """The metric that trials are compared by."""
        return self.recipe.task.metrics[0]

    def values(self, trial):
        """The values of the recipe's keys in a trial."""
        return {
            key: dimension.value(trial.params[key])
            for key, dimension in self.space.items()
        }

    def runs(self, number, values):
        """The runs of a trial, as a list of `PlannedRun`."""
        name = f"trial={number:04d}"
        if self.named_by_values:
            name = ",".join(_assignments(self.recipe, values))
        first = self.recipe.seed
        return [
            PlannedRun(
                self.recipe.replaced({**values, "seed": seed}, "--seeds"),
                self.workdir / ",".join(filter(None, [name, f"seed={seed}"])),
            )
            for seed in range(first, first + self.seeds)
        ]

    def _scores(self, run, report):
        """Train a run, or resume it, and read its scores."""
        if not is_finished(run):
            _wait_until_free(run.workdir)
            callbacks = [] if report is None else [report]
            try:
                with _errors_of_one_trial(self.space):
                    trainer.fit(
                        run.recipe,
                        run.workdir,
                        verbose=self.verbose,
                        callbacks=callbacks,
                    )
            finally:
                # Without this, TensorFlow keeps every network in memory.
                keras.utils.clear_session()
        if report is not None:
            report.add_epochs()
        scores = _read(run.workdir, self.recipe.task.metrics)
        for metric in self.recipe.task.metrics:
            if not math.isfinite(scores[metric.name]):
                raise TrialError(
                    f"{metric.name} is {scores[metric.name]}: it diverged."
                )
        return scores


class TrialError(KerasDropBlockError):
    """A trial failed. The others need not fail."""


@contextlib.contextmanager
def _errors_of_one_trial(space):
    """A context that turns errors that need not repeat into `TrialError`."""
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


def _read(workdir, metrics):
    """Validation scores, parameters and seconds of a finished run."""
    run = Run(workdir)
    return {
        **{m.name: run.scores["validation"][m.name] for m in metrics},
        "seconds": run.seconds,
        "parameters": run.card.metrics["parameters"],
    }


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


def _assignments(recipe, values):
    """Parts of a folder's name, in an order that depends on the recipe."""
    order = list(recipe.flat())
    for key in sorted(values, key=order.index):
        text = re.sub(r"[^\w.+-]+", "-", as_text(values[key]))
        yield f"{key}={text.strip('-') or 'none'}"
