"""Callbacks of a run: data order, schedule, logs and weights."""

import csv
import io
import pathlib
import time

import keras

from keras_dropblock import files
from keras_dropblock.callbacks import KeepProbScheduler


class EpochOfData(keras.callbacks.Callback):
    """Sets the epoch of `data.batches.Batches`, also after a resume."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


class KeepProbOfRun(KeepProbScheduler):
    """`KeepProbScheduler` for a `fit` that may begin inside an epoch.

    `EpochOfData` must come before this callback in the list.

    Args:
        schedule: as in `KeepProbScheduler`.
        batches: the `data.batches.Batches` of a whole epoch.
    """

    def __init__(self, schedule, batches):
        super().__init__(schedule)
        self.batches = batches
        self.steps_per_epoch = len(batches)

    def _share_of_fit(self, batch):
        epoch, step = self.batches.epoch, self.batches.first_batch + batch
        steps, epochs = self.steps_per_epoch, self.params["epochs"]
        return (epoch * steps + step) / (epochs * steps)


class LogSpeed(keras.callbacks.Callback):
    """Logs the training speed of each epoch in images per second.

    The first step of an epoch is not counted, since it compiles or waits for
    data. The last step and the evaluation are not counted either. An epoch
    with fewer than three steps logs 0.

    Args:
        batch_size: images per step, over all replicas.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.now = {"images_per_second": 0.0}
        self._first_batch = None

    # `on_train_batch_end` would force a device synchronization.
    def on_train_batch_begin(self, batch, logs=None):
        now = time.perf_counter()
        if self._first_batch is None and batch:
            self._first_batch, self._since = batch, now
        elif batch:
            images = (batch - self._first_batch) * self.batch_size
            speed = images / (now - self._since)
            self.now = {"images_per_second": round(speed, 1)}

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.now)


class LogLearningRate(keras.callbacks.Callback):
    """Logs the learning rate at the start of each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.now = {"learning_rate": float(keras.ops.convert_to_numpy(rate))}

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.now)


class LogRegularization(keras.callbacks.Callback):
    """Logs the part of the loss that is weight decay, after each epoch.

    The log `loss` includes it, and so does the loss of a scored split.

    Args:
        on_one_device: see `ScoreEpoch`.
    """

    def __init__(self, on_one_device):
        super().__init__()
        self.on_one_device = on_one_device

    def on_epoch_end(self, epoch, logs=None):
        with self.on_one_device() as model:
            losses = map(keras.ops.convert_to_numpy, model.losses)
            logs["regularization_loss"] = sum(map(float, losses))


class ShowOnBar(keras.callbacks.Callback):
    """Shows the values of other callbacks on Keras's progress bar.

    Use it only with a progress bar: since it defines `on_train_batch_end`,
    Keras waits for the loss of each batch.

    Args:
        others: callbacks with a dict `now`. They must come before this one.
    """

    def __init__(self, others):
        super().__init__()
        self.others = others

    def on_train_batch_end(self, batch, logs=None):
        for other in self.others:
            logs.update(other.now)


class WriteHistory(keras.callbacks.Callback):
    """Appends the logs of each epoch to a CSV file, atomically.

    A file that exists keeps its columns: a run that began with an earlier
    version may lack some.
    """

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        before = self.path.read_text("utf-8") if self.path.exists() else ""
        added = io.StringIO()
        columns = ["epoch", *sorted(logs)]
        if before:
            columns = before.splitlines()[0].split(",")
        writer = csv.DictWriter(
            added, columns, extrasaction="ignore", lineterminator="\n"
        )
        if not before:
            writer.writeheader()
        writer.writerow({"epoch": epoch, **logs})
        files.write_text(self.path, before + added.getvalue())


class SaveWeights(keras.callbacks.Callback):
    """Saves the weights after each epoch, atomically.

    Args:
        path: file to write, ending in `.weights.h5`.
        on_one_device: function that returns a context manager, which yields
            the model to save.
    """

    def __init__(self, path, on_one_device):
        super().__init__()
        self.path = path
        self.on_one_device = on_one_device

    def on_epoch_end(self, epoch, logs=None):
        with (
            self.on_one_device() as model,
            files.replacing(self.path) as temporary,
        ):
            model.save_weights(temporary)


class ScoreEpoch(keras.callbacks.Callback):
    """Evaluates a split after each epoch and logs the scores by its name.

    It replaces the `validation_data` of `fit`, which would name every split
    "val" and would need batches that are divisible among all devices.

    Args:
        on_one_device: function that returns a context manager, which yields
            the model to evaluate.
        task: `tasks.Task`, whose `epoch_scores` are logged.
        batches: batches to evaluate the model on.
        split: `"validation"` or `"test"`, the prefix in the logs.
    """

    def __init__(self, on_one_device, task, batches, split):
        super().__init__()
        self.on_one_device = on_one_device
        self.task = task
        self.batches = batches
        self.split = split

    def on_epoch_end(self, epoch, logs=None):
        with self.on_one_device() as model:
            scores = self.task.epoch_scores(
                model, self.batches, epoch, self.params["epochs"]
            )
        logs.update({f"{self.split}_{k}": v for k, v in scores.items()})


class DrawEpoch(keras.callbacks.Callback):
    """Draws predictions for the first images of a split after each epoch.

    Args:
        folder: `pathlib.Path` to write `epoch_0001.png` and so on to.
        on_one_device: see `ScoreEpoch`.
        task: `tasks.Task`, whose `draw_epoch` draws.
        batches: batches of the split.
        card: `hub.Card` of the model.
    """

    def __init__(self, folder, on_one_device, task, batches, card):
        super().__init__()
        self.folder = folder
        self.on_one_device = on_one_device
        self.task = task
        self.batches = batches
        self.card = card

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"epoch_{epoch + 1:04}.png"
        with self.on_one_device() as model:
            self.task.draw_epoch(model, self.batches, self.card, path)
