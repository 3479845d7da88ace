"""Measure the time between two epochs of `fit` on TensorFlow.

Before the next epoch, TensorFlow closes the data set. Keras makes an
autotuned data set of a `PyDataset`; this package reads its batches without
autotuning: see `data.batches.without_autotuning`. The thread that ends the data
set must be interrupted at a bad moment, so other processes keep all cores busy.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

from absl import app

import processes
import shared_flags
from markdown_table import markdown

EPOCHS, STEPS, STEP_SECONDS = 11, 70, 0.02


@contextlib.contextmanager
def busy_cores():
    """A context in which a process on each core only counts."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def trainer():
    """A function that trains for some epochs with steps that only wait.

    Its argument is what `fit` reads. It returns the seconds from the end of
    the last step of an epoch to the first step of the next one.
    """
    import keras

    class Wait(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.between, self.end = [], None

        def on_train_batch_begin(self, batch, logs=None):
            now = time.perf_counter()
            if batch == 0:
                self.begin = now
                if self.end:
                    self.between.append(round(now - self.end, 4))

        def on_train_batch_end(self, batch, logs=None):
            next_step = self.begin + (batch + 1) * STEP_SECONDS
            time.sleep(max(0, next_step - time.perf_counter()))
            self.end = time.perf_counter()

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(loss="mse")
    wait = Wait()

    def fit(batches):
        model.fit(
            batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[wait]
        )
        return wait.between

    return fit


def measure(rounds):
    import numpy as np

    from keras_dropblock import data

    batches = data.ArrayBatches(
        np.zeros((8 * STEPS, 4, 4, 3), "uint8"),
        np.zeros((8 * STEPS, 2), "float32"),
        batch_size=8,
        preprocessing=data.Preprocessing((4, 4), (0.0,) * 3, (1.0,) * 3),
        targets=lambda labels: labels,
        training=True,
    )
    fit = trainer()
    readers = {
        "PyDataset": lambda: contextlib.nullcontext(batches),
        "ours": batches.for_keras,
    }
    seconds = {name: [] for name in readers}
    with busy_cores():
        for _ in range(rounds):
            for name, reader in readers.items():
                with reader() as read:
                    seconds[name] += fit(read)
    return [
        {"data": name, "rounds": rounds, "seconds": values}
        for name, values in seconds.items()
    ]


def show(rows):
    table = [
        [
            "fit reads",
            "epochs",
            "median, ms",
            "longest, ms",
            "longer than 0.2 s",
        ]
    ]
    for row in rows:
        values = row["seconds"]
        table.append(
            [
                row["data"],
                str(len(values)),
                f"{statistics.median(values) * 1e3:.0f}",
                f"{max(values) * 1e3:.0f}",
                str(sum(value > 0.2 for value in values)),
            ]
        )
    return markdown(table)


def main(_):
    rounds = 1 if shared_flags.QUICK.value else 5
    processes.run_on_tensorflow("between_epochs", lambda: measure(rounds), show)


if __name__ == "__main__":
    app.run(main)
