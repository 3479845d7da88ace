"""Results of a search: its trials as a table, and the best recipe."""

import dataclasses
import datetime
import math
import typing

from optuna.trial import TrialState

from keras_dropblock import files
from keras_dropblock.search import tables
from keras_dropblock.search.planned import shown_values
from keras_dropblock.search.space import as_text, points

TRIALS = "trials.csv"
BEST = "best.toml"


@dataclasses.dataclass(frozen=True)
class Results:
    """The state of a search.

    Attributes:
        table: `tables.Table` with a row for each trial that has begun. For a
            grid, with a row for each point, in the order of its values.
        planned: number of trials of the whole search.
        finished: number of trials that are complete, pruned or failed.
        seconds_left: estimated from the finished trials and the number of
            running ones. None: unknown.
        confirmation: `confirmation.Confirmation`. None: there is none.
    """

    table: tables.Table
    planned: int
    finished: int
    seconds_left: float | None
    confirmation: typing.Any = None

    @property
    def is_finished(self):
        """Whether no trial is left."""
        return self.finished >= self.planned

    @property
    def failures(self):
        """Dict from the number of each failed trial to its error."""
        rows = [row for row in self.table.rows if row["failed"]]
        return {row["trial"]: row["error"] for row in rows}

    @property
    def confirmation_failed(self):
        """Whether a run of the confirmation failed."""
        if self.confirmation is None:
            return False
        return any(row["failed"] for row in self.confirmation.table.rows)

    def progress(self):
        """A sentence for the terminal and the page."""
        text = f"{self.finished} of {self.planned} trials are finished."
        best = self.table.best()
        if best:
            main = self.table.main
            value = main.text_with_unit(best[0][f"{main.name}_mean"])
            text += (
                f" Best validation {main.title}: {value} (trial "
                f"{best[0]['trial']})."
            )
        if self.finished < self.planned and self.seconds_left is not None:
            left = datetime.timedelta(seconds=round(self.seconds_left))
            text += f" Time left: about {left}."
        return text

    def remark(self):
        """A sentence on the best points and what to do with them."""
        best = [self._values(row) for row in self.table.best()]
        if not best or len(self.table.rows) == 1:
            return (
                "There are no two points to compare: all seeds of a point "
                "must be finished."
            )
        return (
            f"Best mean validation {self.table.main.title}: "
            f"{'; '.join(map(shown_values, best))}. Of {len(self.table.rows)} "
            "points, this one is the best partly by chance: --confirm trains "
            "the best ones again with new seeds, and evaluates them on the "
            "test set."
        )

    def best_points(self, count):
        """Values of the best points, best first, each point once."""
        rows = self.table.top(len(self.table.rows)).rows
        found = []
        for row in rows:
            values = self._values(row)
            if row["n"] == self.table.seeds and values not in found:
                found.append(values)
        return found[:count]

    def write(self, workdir, recipe):
        """Write `trials.csv` and, once a trial is complete, `best.toml`."""
        if not self.table.rows:
            return
        files.write_text(workdir / TRIALS, self.table.csv())
        best = self.best_points(1)
        if best:
            main = self.table.main
            row = self.table.best()[0]
            files.write_text(
                workdir / BEST,
                f"# Trial {row['trial']}: validation {main.title} "
                f"{tables.mean_and_std(row, main)} {main.unit}".rstrip()
                + f", n = {row['n']}.\n# It is the best of {self.finished} "
                "trials.\n" + recipe.replaced(best[0], BEST).to_toml(),
            )

    def _values(self, row):
        return {key: row[key] for key in self.table.keys}


def of_study(study, objective):
    """Read the results from the storage.

    Args:
        study: `study.Study`.
        objective: `trial.Objective`.

    Returns:
        `Results`.
    """
    trials = study.latest()
    rows = [
        _row(number, trial, objective)
        for number, trial in sorted(trials.items())
        if {*objective.space} <= {*trial.params}
    ]
    if objective.named_by_values:
        rows = _in_order(rows, objective)
    ended = [t for t in trials.values() if t.state.is_finished()]
    seconds = [t.duration.total_seconds() for t in ended if t.duration]
    running = sum(t.state == TrialState.RUNNING for t in trials.values())
    left = None
    if seconds:
        each = math.fsum(seconds) / len(seconds)
        left = each * (study.trials - len(ended)) / max(running, 1)
    table = tables.Table(
        tuple(objective.space),
        objective.seeds,
        objective.recipe.task.metrics,
        rows,
    )
    return Results(table, study.trials, len(ended), left)


def _row(number, trial, objective):
    """The row of a trial."""
    metrics = objective.recipe.task.metrics
    failed = trial.state == TrialState.FAIL
    scores = trial.user_attrs.get("scores", [])
    if trial.state == TrialState.PRUNED:
        scores = []
    values = objective.values(trial)
    epochs = values.get("epochs", objective.recipe.epochs)
    trained = 0 if "same_as" in trial.user_attrs else len(scores)
    error = trial.user_attrs.get("error")
    if failed and error is None:
        error = "The worker stopped responding, again and again."
    return {
        "trial": number,
        **values,
        "state": trial.state.name.lower(),
        **tables.summary(metrics, scores, int(failed)),
        "epochs": max(
            trained * epochs, max(trial.intermediate_values, default=0)
        ),
        "error": error,
    }


def _in_order(rows, objective):
    """The rows of a grid, with empty ones for points that have no trial."""
    keys = tuple(objective.space)
    grid = {key: d.grid() for key, d in objective.space.items()}
    by_point = {tuple(row[key] for key in keys): row for row in rows}
    return [
        by_point.get(point)
        or {
            "trial": None,
            **dict(zip(keys, point, strict=True)),
            "state": None,
            **tables.summary(objective.recipe.task.metrics, []),
            "epochs": 0,
            "error": None,
        }
        for point in points(grid)
    ]


def list_failures(failures):
    """The errors of a search, each once, with the trials that failed."""
    trials = {}
    for number, error in failures.items():
        trials.setdefault(error, []).append(as_text(number))
    lines = [f"error: trials that failed: {len(failures)}."]
    for error, numbers in trials.items():
        lines += [error, f"  trials {', '.join(numbers)}"]
    return "\n".join(lines)
