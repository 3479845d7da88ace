"""keras-dropblock-train: train by a recipe, or go on with a run.

SIGTERM and Ctrl-C stop the run after the step at hand, with a backup; a second
one stops it at once.

Exit codes: 0 done; 1 a wrong flag, or an error of the program itself; 2 a
wrong recipe, data set or work directory; 3 the loss or the weights ceased to
be finite; 4 a file could not be written or read, as on a full disk; 130
stopped by Ctrl-C and 143 by SIGTERM. The last good backup outlives each of
them. After 4, 130 and 143 the same command goes on with the run.
"""

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe
from keras_dropblock.cli.workdir import WORKDIR

_BACKUP_MINUTES = flags.DEFINE_float(
    "backup_minutes",
    10.0,
    "Least time between backups within an epoch; 0 backs up every step. One "
    "is made after every epoch too. It does not change the result.",
    lower_bound=0.0,
)
flags.mark_flag_as_required(WORKDIR.name)


def train():
    from keras_dropblock import fitting

    fitting.fit(recipe(), WORKDIR.value, backup_minutes=_BACKUP_MINUTES.value)


def main():
    cli.run(train)
