"""Confirmation: the best points are trained again and tested once."""

import dataclasses
import functools
import json
import statistics

import optuna

from keras_dropblock import data, files
from keras_dropblock.errors import RecipeError
from keras_dropblock.search import tables
from keras_dropblock.search.dimensions import Choice
from keras_dropblock.search.planned import (
    PlannedRun,
    TrialError,
    folder_name,
    read_scores,
    shown_values,
    train,
)
from keras_dropblock.search.samplers import Point
from keras_dropblock.search.storage import patiently
from keras_dropblock.search.worker import Worker

FOLDER = "confirmed"
CSV = "confirmed.csv"


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """The best points with new seeds, on the test split.

    Attributes:
        table: `tables.Table` with a row for each point, best on the
            validation split first. Its scores are those of the test split.
            `validation` and `looked_at` are further columns of the CSV.
        looked_at: number of trials that the points were chosen from.
    """

    table: tables.Table
    looked_at: int

    def text(self):
        """The table as Markdown, and what it means."""
        return (
            f"{self.table.markdown()}\nThese points were the best of "
            f"{self.looked_at} on the validation split. They were trained "
            "again on the whole training set with new seeds, and evaluated on "
            "the test set once, after the last epoch."
        )


def new_seeds(recipe, settings):
    """The seeds of the confirmation: those after the seeds of the search.

    Raises:
        RecipeError: if they are out of range.
    """
    first = recipe.seed + settings.seeds
    seeds = range(first, first + settings.confirm_seeds)
    try:
        recipe.replaced({"seed": seeds[-1]}, "--confirm_seeds")
    except RecipeError as error:
        raise RecipeError(f"{error} Set a lower `seed`.") from error
    return seeds


def whole_training_set(recipe):
    """A recipe that also trains on the images that were held out.

    A data set that has a validation split of its own keeps it.
    """
    changes = {"validation_split": None}
    own = data.sources.has_own_validation(recipe.dataset)
    if isinstance(recipe.validation_split, str) and not own:
        parts = (recipe.train_split, recipe.validation_split)
        changes["train_split"] = "+".join(parts)
    return recipe.replaced(changes, "--confirm")


def confirm(results, objective, settings, study):
    """Train the best points again, alone or with other workers.

    Args:
        results: `results.Results` of the finished search.
        objective: `trial.Objective` of the search.
        settings: `settings.Settings`.
        study: function from a name, distributions, a sampler and a number of
            trials to a `study.Study`.

    Returns:
        `Confirmation`.
    """
    recipe, workdir = objective.recipe, objective.workdir
    chosen = results.best_points(settings.confirm)
    seeds = new_seeds(recipe, settings)
    pairs = [
        {"point": point, "seed": seed}
        for seed in seeds
        for point in range(len(chosen))
    ]
    if chosen:
        one = study(
            json.dumps([list(point.values()) for point in chosen]),
            {
                "point": Choice(tuple(range(len(chosen)))).distribution(),
                "seed": Choice(tuple(seeds)).distribution(),
            },
            lambda place: Point(pairs[place]),
            len(pairs),
        )
        run = functools.partial(_run, objective, chosen)
        Worker(one, run, (TrialError,)).work()
        trials = patiently(one.latest)
    else:
        trials = {}
    rows = [
        _row(i, values, trials.values(), objective, results)
        for i, values in enumerate(chosen)
    ]
    table = tables.Table(
        tuple(objective.space), len(seeds), recipe.task.metrics, rows
    )
    if rows:
        files.write_text(workdir / CSV, table.csv())
    return Confirmation(table, results.finished)


def _run(objective, chosen, trial):
    """Train one point with one seed, and return its score."""
    values, seed = chosen[trial.params["point"]], trial.params["seed"]
    recipe = whole_training_set(objective.recipe.replaced(values, "--confirm"))
    recipe = recipe.replaced({"seed": seed}, "--confirm_seeds")
    name = folder_name(objective.recipe, {**values, "seed": seed})
    run = PlannedRun(recipe, objective.workdir / FOLDER / name)
    print(f"\nConfirmation: {shown_values(values)}, seed {seed}", flush=True)
    # Epochs are not scored: the test set is evaluated once, at the end.
    train(
        run,
        objective.space,
        verbose=objective.verbose,
        score_epochs=False,
    )
    scores = read_scores(run, "test")
    patiently(trial.set_user_attr, "scores", scores)
    return scores[objective.main.name]


def _row(i, values, trials, objective, results):
    """The row of a point, with the scores of all its seeds."""
    mine = [t for t in trials if t.params.get("point") == i]
    scores = [t.user_attrs["scores"] for t in mine if _is_complete(t)]
    failed = sum(t.state == optuna.trial.TrialState.FAIL for t in mine)
    main = f"{objective.main.name}_mean"
    return {
        **values,
        **tables.summary(objective.recipe.task.metrics, scores, failed),
        "validation": statistics.fmean(
            row[main]
            for row in results.table.rows
            if row["n"] == results.table.seeds and values.items() <= row.items()
        ),
        "looked_at": results.finished,
    }


def _is_complete(trial):
    return trial.state == optuna.trial.TrialState.COMPLETE
