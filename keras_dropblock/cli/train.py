"""keras-dropblock-train: train the model of a recipe, or resume a run.

SIGTERM and Ctrl-C stop the run after the current step, with a checkpoint. A
second signal stops it immediately.

To train one model in several processes, set strategy data_parallel and start
the same command in each process. Give each --coordinator, --processes and
--process. The environment variables KERAS_DROPBLOCK_COORDINATOR,
KERAS_DROPBLOCK_PROCESSES and KERAS_DROPBLOCK_PROCESS do the same. SIGTERM to
one process stops all.

Exit codes: 0 finished; 1 a wrong flag, or a bug in the program; 2 a wrong
recipe, data set or work directory; 3 the run diverged (NaN or infinity); 4 a
file could not be written or read, for example on a full disk; 5 another
process stopped (134 if JAX aborted this one); 130 stopped by Ctrl-C; 143
stopped by SIGTERM. The last checkpoint is always kept. After 4, 5, 130, 134
and 143, run the same command again to resume.
"""

import os

from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe
from keras_dropblock.cli.workdir import WORKDIR

_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "Minimum minutes between checkpoints within an epoch; 0 saves one after "
    "every step. A checkpoint is also saved after every epoch. The flag does "
    "not change the result.",
    lower_bound=0.0,
)
flags.mark_flag_as_required(WORKDIR.name)


_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    os.environ.get("KERAS_DROPBLOCK_COORDINATOR"),
    "host:port of process 0. All processes must be able to reach it.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes",
    os.environ.get("KERAS_DROPBLOCK_PROCESSES"),
    "Number of processes that train together.",
)
_PROCESS = flags.DEFINE_integer(
    "process",
    os.environ.get("KERAS_DROPBLOCK_PROCESS"),
    "Index of this process, from 0. Process 0 writes the work directory.",
)


def train():
    given = [flag.value for flag in (_COORDINATOR, _PROCESSES, _PROCESS)]
    if given != [None] * 3:
        _join(*given)
    from keras_dropblock.training import trainer

    trainer.fit(
        recipe(), WORKDIR.value, checkpoint_minutes=_CHECKPOINT_MINUTES.value
    )


def _join(*given):
    from keras_dropblock.training import processes

    if None in given:
        raise app.UsageError(
            "--coordinator, --processes and --process belong together: give "
            "all three or none. Received: "
            f"{', '.join(map(str, given))}."
        )
    try:
        processes.join(*given)
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def main():
    cli.run(train)


if __name__ == "__main__":
    cli.refuse(__spec__)
