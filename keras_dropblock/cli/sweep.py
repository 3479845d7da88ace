"""keras-dropblock-sweep: train a grid of recipes, several seeds each.

Every run has a folder in the work directory; the same command goes on where
it stopped, and more values or seeds add runs. sweep.csv and sweep.png there
hold the mean and standard deviation of each point.

Exit codes: 0 all runs are done; 3 some runs failed, the others are done; the
rest as of keras-dropblock-train.
"""

import sys

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe
from keras_dropblock.cli.workdir import WORKDIR

_GRID = flags.DEFINE_multi_string(
    "grid",
    [],
    "key=[value, ...] of a recipe, such as 'block_size=[3, 5, 7]'; may be "
    "repeated, and all combinations are trained. To choose among them by "
    "held-out training images (of TensorFlow Datasets) in place of the test "
    "set: --set 'train_split=train[:90%]' --set 'test_split=train[90%:]'.",
)
_SEEDS = flags.DEFINE_integer(
    "seeds",
    3,
    "Runs of each combination; their seeds count from the recipe's.",
    lower_bound=1,
)
flags.mark_flag_as_required(WORKDIR.name)


def sweep():
    from keras_dropblock import grids, sweeping

    start = recipe()
    table, failures = sweeping.sweep(
        start,
        grids.parse(_GRID.value),
        workdir=WORKDIR.value,
        seeds=_SEEDS.value,
    )
    print(f"\n{table.markdown()}\n{sweeping.remark(start, table)}")
    print(f"All is in {WORKDIR.value}.")
    if failures:
        print(sweeping.list_failures(failures), file=sys.stderr)
        sys.exit(3)


def main():
    cli.run(sweep)
