"""Pruning: reports the score of each epoch to Optuna."""

import csv
import math

import keras
import optuna

from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.search.storage import is_unreachable


class ReportEpochs(keras.callbacks.Callback):
    """Reports the score of each epoch to Optuna, and asks its pruner.

    The score is the main metric on the validation split. If the epochs of a
    task do not log it, it is the loss, with the sign of the metric's
    direction. An epoch whose score is not finite is not reported: detectors
    have NaN in epochs that do not measure AP, and Optuna prunes on NaN.
    """

    def __init__(self, trial, run):
        super().__init__()
        self.trial = trial
        self.history = run.workdir / workdirs.HISTORY
        self.epochs = run.recipe.epochs
        self.metric = run.recipe.task.metrics[0]
        self.reported = {*frozen(trial).intermediate_values}

    def on_epoch_end(self, epoch, logs=None):
        try:
            prune = self.add_epochs() and self.trial.should_prune()
        except Exception as error:
            if not is_unreachable(error):
                raise
            return  # these epochs are reported after the next one
        if prune and epoch + 1 < self.epochs:  # else it is complete
            raise optuna.TrialPruned

    def add_epochs(self):
        """Report all epochs in the history that are not reported yet.

        Returns:
            Whether an epoch was reported.
        """
        before = len(self.reported)
        for row in self._rows():
            step, score = int(row["epoch"]) + 1, self._score(row)
            if step not in self.reported and math.isfinite(score):
                self.trial.report(score, step)
                self.reported.add(step)
        return len(self.reported) > before

    def _rows(self):
        if not self.history.exists():
            return []
        with open(self.history, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _score(self, row):
        score = row.get(f"validation_{self.metric.name}")
        if score is not None:
            return float(score)
        sign = -1 if self.metric.higher_is_better else 1
        return sign * float(row["validation_loss"])


def frozen(trial):
    """The stored state of a trial that runs."""
    return next(
        t
        for t in trial.study.get_trials(deepcopy=False)
        if t.number == trial.number
    )
