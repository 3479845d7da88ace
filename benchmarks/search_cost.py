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

import statistics

import optuna
from absl import app, flags

from grid_curves import GRID, RECIPE, SEEDS, name_of, points, train_all
from keras_dropblock.search import samplers, space
from keras_dropblock.search.settings import Settings
from keras_dropblock.search.study import Study
from keras_dropblock.search.worker import Worker
from markdown_table import markdown

TRIALS = (4, 6, 8, 12)
REPEATS = 10  # searches for each seed
_MINUTES = flags.DEFINE_float("minutes", 60.0, "Time to train, then stop.")


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


def show(curves):
    """The table of the searches and the grid."""
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
    return markdown(table)


def main(_):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = train_all(_MINUTES.value)
    left = sum(name_of(*point) not in curves for point in points())
    if left:
        print(f"{left} points are left. Run the same command again.")
        return
    print(show(curves))


if __name__ == "__main__":
    app.run(main)
