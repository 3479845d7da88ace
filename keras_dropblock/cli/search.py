"""keras-dropblock-search: find the best values of some keys of a recipe.

Every run has a folder in the work directory. Run the same command again to
resume, or at the same time in other terminals or on other hosts to share the
work. Points are compared by the main metric on the validation split, which the
recipe must have: --set validation_split=0.1

trials.csv lists all trials, and best.toml is the recipe of the best one. The
flags can also be the keys of a table [search] in the recipe file, with the
space in [search.space]. A flag replaces its key.

Exit codes: 0 all trials are finished; 3 some trials failed, the others are
finished; 4 the storage cannot be reached, or a file cannot be written; the
other codes are those of keras-dropblock-train.
"""

import pathlib
import sys

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe_and_table
from keras_dropblock.cli.workdir import WORKDIR

_SPACE = flags.DEFINE_multi_string(
    "space",
    [],
    "key=VALUES of a recipe, where VALUES is float(low, high), int(low, high), "
    "log(low, high), choice(a, b, ...) or [a, b, ...]; float and int may end "
    "with step=..., as in 'keep_prob=float(0.75, 1.0, step=0.05)'. Can be "
    "repeated.",
)
_FLAGS = [
    flags.DEFINE_enum(
        "sampler",
        None,
        ("tpe", "random", "grid"),
        "How points are chosen. grid: all combinations, once each. Default: "
        "tpe, the tree-structured Parzen estimator of Optuna.",
    ),
    flags.DEFINE_enum(
        "pruner",
        None,
        ("none", "median", "hyperband"),
        "How bad trials are stopped early, by their score after each epoch. "
        "Default: none.",
    ),
    flags.DEFINE_integer(
        "trials",
        None,
        "Trials of the whole search, over all workers and sessions. Default "
        "for grid: all points.",
    ),
    flags.DEFINE_integer(
        "seeds",
        None,
        "Runs of each trial. Their seeds count up from the recipe's seed. "
        "Default: 1.",
    ),
    flags.DEFINE_integer(
        "confirm",
        None,
        "Number of best points that are trained again at the end, on the "
        "whole training set, and evaluated once on the test set. Default: 0.",
    ),
    flags.DEFINE_integer(
        "confirm_seeds", None, "New seeds for each of these points. Default: 5."
    ),
    flags.DEFINE_string(
        "storage",
        None,
        "Database for several hosts, such as postgresql://user@host/name or "
        "grpc://host:port. Default: study.db in the work directory.",
    ),
    flags.DEFINE_string(
        "study",
        None,
        "Name of the study in the storage. Default: name of the work "
        "directory.",
    ),
    flags.DEFINE_float(
        "grace_seconds",
        None,
        "Time without a sign of life after which the trial of a worker is "
        "resumed by another one. Default: 120.",
    ),
]
_RETRY_FAILED = flags.DEFINE_bool(
    "retry_failed",
    False,
    "Run failed trials again. Only one of the workers may have this flag.",
)
flags.mark_flag_as_required(WORKDIR.name)


def search():
    from keras_dropblock.errors import RecipeError
    from keras_dropblock.search import results, session, settings, space

    start, table = recipe_and_table("search")
    spaces = table.pop("space", {})
    if not isinstance(spaces, dict):
        raise RecipeError(
            "`space` must be a table, [search.space]. Received: "
            f"space={spaces!r}."
        )
    spaces = {**spaces, **space.parse(_SPACE.value)}
    given = {flag.name: flag.value for flag in _FLAGS if flag.value is not None}
    chosen = settings.Settings.of({**table, **given}, "[search]")
    found = session.search(
        start,
        spaces,
        chosen,
        workdir=WORKDIR.value,
        retry_failed=_RETRY_FAILED.value,
    )
    shown = found.table
    if chosen.sampler != "grid":
        shown = found.table.top(10)
        print("\nThe best trials:")
    print(f"\n{shown.markdown()}\n{found.remark()}")
    if found.confirmation is not None:
        print(f"\nConfirmed on the test set:\n\n{found.confirmation.text()}")
    print(f"The results are in {pathlib.Path(WORKDIR.value)}.")
    if found.failures:
        print(results.list_failures(found.failures), file=sys.stderr)
    if found.failures or found.confirmation_failed:
        sys.exit(3)


def main():
    cli.run(search)


if __name__ == "__main__":
    cli.refuse(__spec__)
