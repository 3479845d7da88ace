"""A worker of a study whose trials are short, for the tests of workers.

Each trial has four steps, and writes every finished step to a file. If it is
run again, it resumes after the last one.
"""

import os
import pathlib
import sys
import time

import optuna

from keras_dropblock.search.storage import number_of, open_storage
from keras_dropblock.search.study import Study
from keras_dropblock.search.worker import Worker

STEPS = 4


def study(url, trials, folder, grace=3.0):
    folder = pathlib.Path(folder)
    return Study(
        name="short trials",
        storage=open_storage(url, grace),
        higher_is_better=True,
        distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        sampler=lambda place: optuna.samplers.RandomSampler(seed=place),
        pruner=optuna.pruners.NopPruner(),
        trials=trials,
        grace_seconds=grace,
        lock=folder / "lock",
    )


def note(folder, *words):
    """Append a line to the log that all workers share."""
    with open(folder / "log", "a") as file:
        print(*words, file=file)


def notes(folder):
    path = folder / "log"
    if not path.exists():
        return []
    return [tuple(line.split()) for line in path.read_text().splitlines()]


def objective(folder, seconds):
    def run(trial):
        (number,) = (
            number_of(t)
            for t in trial.study.get_trials(deepcopy=False)
            if t.number == trial.number
        )
        note(folder, "start", number, os.getpid())
        done = folder / f"trial_{number}"
        first = int(done.read_text()) if done.exists() else 0
        for step in range(first, STEPS):
            while number == 3 and step == 2 and (folder / "hold").exists():
                time.sleep(0.05)
            time.sleep(seconds)
            done.write_text(f"{step + 1}")
            note(folder, "step", number, step)
            if number == 3 and step == 1:
                note(folder, "holding", os.getpid())
        return trial.params["x"]

    return run


def main(url, trials, folder, grace):
    folder = pathlib.Path(folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    one = study(url, int(trials), folder, float(grace))
    Worker(one, objective(folder, 0.05)).work()


if __name__ == "__main__":
    main(*sys.argv[1:])
