"""Train a network one step at a time, with Keras or with plain PyTorch.

Each process of `train_step.py` trains one network, and answers after each step.
"""

import os
import time

import measurement
import networks
import processes

START = time.perf_counter()
DEPTH, BATCH = 16, 64
DROPBLOCK = {"keep_prob": 0.9, "block_size": 7}


class Steps:
    """Counts a worker's steps and answers after each one.

    Create it after the imports, since it measures their time.
    """

    def __init__(self):
        self.imported = time.perf_counter()
        self.before_mb = measurement.peak_memory_mb()
        self.count = 0
        self.scheduler_ms = []

    def done(self):
        """Answer after a step. Returns when the next one should start."""
        now = time.perf_counter()
        self.count += 1
        first = {
            "import_s": self.imported - START,
            "first_step_s": now - self.imported,
        }
        if not processes.answer(first if self.count == 1 else None):
            processes.answer(
                {
                    "before_mb": self.before_mb,
                    "peak_mb": measurement.peak_memory_mb(),
                    # Without the first, which includes the start of `fit`.
                    "scheduler_ms": self.scheduler_ms[1:6],
                }
            )
            os._exit(0)  # `fit` is still running


def train_keras(width, dtype, dropblock):
    import keras

    # Import it before the clock starts.
    import keras_dropblock  # noqa: F401

    steps = Steps()
    same_batch = networks.batch(BATCH)
    model = networks.compiled(
        f"WRN-{DEPTH}-{width}",
        dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype,
        **(DROPBLOCK if dropblock else {}),
    )

    class SameBatch(keras.utils.PyDataset):
        def __len__(self):
            return 10**6

        def __getitem__(self, index):
            return same_batch

    class End(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step
            steps.done()

    callbacks = [End()]
    if dropblock:
        callbacks.append(timed_scheduler(steps.scheduler_ms))
    model.fit(SameBatch(), verbose=0, callbacks=callbacks)


def timed_scheduler(milliseconds):
    """A `KeepProbScheduler` that records its own time before each step."""
    import keras_dropblock

    class Timed(keras_dropblock.KeepProbScheduler):
        def on_train_batch_begin(self, batch, logs=None):
            before = time.perf_counter()
            super().on_train_batch_begin(batch, logs)
            milliseconds.append((time.perf_counter() - before) * 1e3)

    # keep_prob changes in each of the first six steps and then stays constant.
    # In a real run it changes in about a thousand of all steps.
    return Timed(lambda progress: 0.9 + 0.1 * progress, total_steps=6)


def train_torch(width, dtype, channels_last):
    import plain_torch

    steps = Steps()
    images, labels = networks.batch(BATCH)
    step = plain_torch.training_step(
        plain_torch.wrn(DEPTH, width),
        images,
        labels.argmax(1),
        channels_last,
        autocast=dtype == "bfloat16",
    )
    while True:
        step()
        steps.done()
