"""keras-dropblock-train: train by a recipe, or go on with a run.

SIGTERM and Ctrl-C stop the run after the step at hand, with a backup; a second
one stops it at once.

Several processes train together when each is started by the same command with
--coordinator, --processes and --process, or the environment variables
KERAS_DROPBLOCK_COORDINATOR and so on, and strategy data_parallel. They stop
together, on SIGTERM to any of them.

Exit codes: 0 done; 1 a wrong flag, or an error of the program itself; 2 a
wrong recipe, data set or work directory; 3 the loss or the weights ceased to
be finite; 4 a file could not be written or read, as on a full disk; 5 (or 134,
where JAX itself ends the process) another process stopped; 130 stopped by
Ctrl-C and 143 by SIGTERM. The last good backup outlives each of them. After 4,
5, 130, 134 and 143 the same command goes on with the run.
"""

import os

from absl import app, flags

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


_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    os.environ.get("KERAS_DROPBLOCK_COORDINATOR"),
    "host:port of the first of several processes, as all reach it.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes",
    os.environ.get("KERAS_DROPBLOCK_PROCESSES"),
    "How many processes train together.",
)
_PROCESS = flags.DEFINE_integer(
    "process",
    os.environ.get("KERAS_DROPBLOCK_PROCESS"),
    "Which of them this one is, from 0. It writes the work directory if it is "
    "0.",
)


def train():
    given = [flag.value for flag in (_COORDINATOR, _PROCESSES, _PROCESS)]
    if given != [None] * 3:
        _join(*given)
    from keras_dropblock import fitting

    fitting.fit(recipe(), WORKDIR.value, backup_minutes=_BACKUP_MINUTES.value)


def _join(*given):
    from keras_dropblock import processes

    if None in given:
        raise app.UsageError(
            "--coordinator, --processes and --process belong together: give "
            f"all three, or none. Received: {', '.join(map(str, given))}."
        )
    try:
        processes.join(*given)
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def main():
    cli.run(train)
