"""A trial: the runs of one point of a search space, one for each seed."""

import dataclasses
import pathlib
import statistics

import optuna

from keras_dropblock.search.planned import (
    PlannedRun,
    folder_name,
    read_scores,
    shown_values,
    train,
)
from keras_dropblock.search.pruning import ReportEpochs, frozen
from keras_dropblock.search.storage import number_of, patiently
from keras_dropblock.training.recipe import Recipe


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
            TrialError: for an error that other trials may not have.
        """
        values = self.values(trial)
        number = number_of(frozen(trial))
        print(f"\nTrial {number}: {shown_values(values)}", flush=True)
        twin = _twin(trial)
        if twin is not None:
            print(f"It has the values of trial {twin.number}.", flush=True)
            patiently(trial.set_user_attr, "same_as", twin.number)
            patiently(trial.set_user_attr, "scores", twin.user_attrs["scores"])
            return twin.value
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
            name = folder_name(self.recipe, values)
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
        callbacks = [] if report is None else [report]
        train(run, self.space, verbose=self.verbose, callbacks=callbacks)
        if report is not None:
            patiently(report.add_epochs)
        return read_scores(run, "validation")


def _twin(trial):
    """A complete trial with the same values: training again would repeat it."""
    return next(
        (
            other
            for other in trial.study.get_trials(deepcopy=False)
            if other.state == optuna.trial.TrialState.COMPLETE
            and other.params == trial.params
        ),
        None,
    )
