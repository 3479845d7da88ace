"""keras-dropblock-sweep: train a grid of recipes with several seeds each.

Every run has a folder in the work directory. Run the same command again to
resume, or add values or seeds to add runs. sweep.csv and sweep.png in the work
directory show the mean and standard deviation of each point on the validation
split.

Exit codes: 0 all runs are finished; 3 some runs failed, the others are
finished; the other codes are those of keras-dropblock-train.
"""

import sys

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe
from keras_dropblock.cli.workdir import WORKDIR

_GRID = flags.DEFINE_multi_string(
    "grid",
    [],
    "key=[value, ...] of a recipe, such as 'block_size=[3, 5, 7]'. Can be "
    "repeated: all combinations are trained. They are compared on the "
    "validation split, which the recipe must have: --set validation_split=0.1",
)
_SEEDS = flags.DEFINE_integer(
    "seeds",
    3,
    "Runs of each combination. Their seeds count up from the recipe's seed.",
    lower_bound=1,
)
flags.mark_flag_as_required(WORKDIR.name)


def sweep():
    from keras_dropblock.search import grids
    from keras_dropblock.search import sweep as sweeps

    start = recipe()
    table, failures = sweeps.sweep(
        start,
        grids.parse(_GRID.value),
        workdir=WORKDIR.value,
        seeds=_SEEDS.value,
    )
    print(f"\n{table.markdown()}\n{sweeps.remark(table)}")
    print(f"The results are in {WORKDIR.value}.")
    if failures:
        print(sweeps.list_failures(failures), file=sys.stderr)
        sys.exit(3)


def main():
    cli.run(sweep)


if __name__ == "__main__":
    cli.refuse(__spec__)
