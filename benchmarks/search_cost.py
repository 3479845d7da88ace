"""Compare TPE and Hyperband with the full grid, by the epochs that they train.

A small network is trained at every point of a grid with three seeds, and the
validation accuracy of every epoch is kept in results/search_cost.json. The
search then runs with the package's own sampler, pruner and worker, but reads
the score of each epoch from this file instead of training. Both therefore use
the same scores, and many searches take little time.

    python benchmarks/search_cost.py

Run it again to resume. --minutes stops the training early. The file belongs to
one recipe and one version of the code: delete it to measure another.
"""

import json
import pathlib
import statistics
import time

import keras
import optuna
from absl import app, flags

import measurement
from keras_dropblock import files
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.schedules import BY_NAME
from keras_dropblock.search import samplers, space
from keras_dropblock.search.planned import folder_name
from keras_dropblock.search.settings import Settings
from keras_dropblock.search.study import Study
from keras_dropblock.search.worker import Worker
from keras_dropblock.training import plan, trainer
from keras_dropblock.training.callbacks import EpochOfData, KeepProbOfRun
from keras_dropblock.training.recipe import Recipe

TABLE = pathlib.Path(__file__).parent / "results" / "search_cost.json"
TRIALS = (4, 6, 8, 12)
RECIPE = Recipe(
    model="WRN-10-1",
    block_size=3,
    dataset="digits",
    validation_split=0.3,
    epochs=9,
    batch_size=64,
    learning_rate_schedule="cosine",
)
GRID = {
    "keep_prob": "float(0.6, 0.9, step=0.1)",
    "dropblock_groups": "choice([3], [2, 3])",
}
SEEDS = (0, 1, 2)
REPEATS = 10  # searches for each seed
_MINUTES = flags.DEFINE_float("minutes", 60.0, "Time to train, then stop.")


class Trainers:
    """One compiled model for each set of groups with DropBlock.

    Compiling takes longer than training. A run on a compiled model starts
    with the weights, keep_prob and seeds of a new one, and an optimizer
    without momentum.
    """

    def __init__(self):
        self._trainers = {}

    def of(self, resolved):
        recipe = resolved.recipe
        key = recipe.dropblock_groups
        if key not in self._trainers:
            self._trainers[key] = trainer.Trainer(resolved)
        one = self._trainers[key]
        keras.utils.set_random_seed(recipe.seed)
        new = resolved.card.build()
        for ours, theirs in zip(
            one.model.variables, new.variables, strict=True
        ):
            ours.assign(theirs)
        for variable in one.model.optimizer.variables:
            if "learning_rate" not in variable.name:
                variable.assign(keras.ops.zeros_like(variable))
        for ours, theirs in zip(
            dropblock_layers(one.model), dropblock_layers(new), strict=True
        ):
            ours.final_keep_prob = theirs.final_keep_prob
        return one.model


def curve(recipe, trainers):
    """Validation accuracy after each epoch."""
    resolved = plan.resolve(recipe)
    model = trainers.of(resolved)
    train = resolved.training_batches()
    validation = resolved.scoring_batches("validation")
    scores = []

    def score(epoch, logs):
        result = model.evaluate(validation, return_dict=True, verbose=0)
        scores.append(round(result["accuracy"], 5))

    model.fit(
        train,
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            EpochOfData(train),
            KeepProbOfRun(BY_NAME[recipe.schedule], train),
            keras.callbacks.LambdaCallback(on_epoch_end=score),
        ],
    )
    return scores


def points():
    """(seed, values of the keys) of the grid, for each seed."""
    dimensions = space.checked(RECIPE, GRID)
    for seed in SEEDS:
        for point in space.points({k: d.grid() for k, d in dimensions.items()}):
            yield seed, dict(zip(GRID, point, strict=True))


def _structure(point):
    _, values = point
    return values["dropblock_groups"]


def name_of(seed, values):
    return folder_name(RECIPE, {**values, "seed": seed})


def train_all():
    """Train the points that are not in the file yet.

    Returns:
        A dict from the name of each point to its curve.

    Raises:
        SystemExit: if the file is of another recipe or commit.
    """
    end = time.monotonic() + 60 * _MINUTES.value
    recipe = RECIPE.to_toml()
    table = {**measurement.record(), "recipe": recipe, "curves": {}}
    if TABLE.exists():
        known = json.loads(TABLE.read_text("utf-8"))
        complete = all(name_of(*point) in known["curves"] for point in points())
        for key in ("recipe",) if complete else ("recipe", "commit"):
            if known[key] != table[key]:
                raise SystemExit(
                    f"{TABLE} has another {key}. Delete it to train again. "
                    f"Found: {known[key]}. Expected: {table[key]}."
                )
        table = known
    curves = table["curves"]
    trainers = Trainers()
    for seed, values in sorted(points(), key=_structure):
        name = name_of(seed, values)
        if name not in curves and time.monotonic() < end:
            recipe = RECIPE.replaced({**values, "seed": seed}, "grid")
            curves[name] = curve(recipe, trainers)
            files.write_json(TABLE, table)
            print(name, curves[name], flush=True)
    return curves


def searched(curves, seed, repeat, trials):
    """(best validation accuracy, epochs) of one search."""
    dimensions = space.checked(RECIPE, GRID)
    settings = Settings(sampler="tpe", pruner="hyperband", trials=trials)
    epochs, known = [], {}

    def objective(trial):
        values = {
            key: dimension.value(trial.params[key])
            for key, dimension in dimensions.items()
        }
        name = name_of(seed, values)
        if name in known:  # the search does not train a point again
            return known[name]
        for epoch, score in enumerate(curves[name], 1):
            epochs.append(epoch)
            trial.report(score, epoch)
            if epoch < RECIPE.epochs and trial.should_prune():
                raise optuna.TrialPruned
        known[name] = score
        return score

    study = Study(
        name=f"seed {seed}, {repeat}",
        storage=optuna.storages.InMemoryStorage(),
        higher_is_better=True,
        distributions={k: d.distribution() for k, d in dimensions.items()},
        sampler=samplers.sampler_of(settings, dimensions, repeat),
        pruner=samplers.pruner_of(settings, RECIPE.epochs),
        trials=trials,
        grace_seconds=60.0,
    )
    Worker(study, objective).work()
    return study.load().best_value, len(epochs)


def below(best, found):
    """How much less the searches find than the grid.

    Args:
        best: the best score of the grid with each seed.
        found: for each seed, the best scores of its searches.

    Returns:
        The mean over the seeds and, since each seed is a pair, its standard
        error.
    """
    gaps = [
        top - statistics.fmean(scores)
        for top, scores in zip(best, found, strict=True)
    ]
    return statistics.fmean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5


def main(_):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = train_all()
    left = sum(name_of(*point) not in curves for point in points())
    if left:
        print(f"{left} points are left. Run the same command again.")
        return
    size = len([*points()]) // len(SEEDS)
    best = [
        max(curves[name_of(s, v)][-1] for s, v in points() if s == seed)
        for seed in SEEDS
    ]
    table = [
        [
            "trials",
            "share of the grid's epochs",
            "best validation accuracy, %",
            "below the grid's best",
        ]
    ]
    for trials in TRIALS:
        runs = [
            [
                searched(curves, seed, repeat, trials)
                for repeat in range(REPEATS)
            ]
            for seed in SEEDS
        ]
        epochs = statistics.fmean(n for of_seed in runs for _, n in of_seed)
        found = [[score for score, _ in of_seed] for of_seed in runs]
        mean, error = below(best, found)
        table.append(
            [
                f"{trials}",
                f"{epochs / (size * RECIPE.epochs):.0%}",
                f"{100 * (statistics.fmean(best) - mean):.2f}",
                f"{100 * mean:.2f} ± {100 * error:.2f}",
            ]
        )
    table.append(["grid", "100%", f"{100 * statistics.fmean(best):.2f}", "-"])
    print(measurement.markdown(table))


if __name__ == "__main__":
    app.run(main)
