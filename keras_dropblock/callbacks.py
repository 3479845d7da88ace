"""Callbacks: the schedule of keep_prob, and what a run writes each epoch."""

import csv
import io
import math
import pathlib
import time

import keras

from keras_dropblock import files, schedules
from keras_dropblock.layers import dropblock_layers, masks


class KeepProbScheduler(keras.callbacks.Callback):
    """Moves the keep_prob of every DropBlock layer during `fit`.

    `keep_prob = 1 - strength * (1 - final_keep_prob)` for each layer, where
    `strength = schedule(progress)`. By default, progress counts the batches of
    this `fit`: it is 0 when the first batch begins and 1 when the last epoch
    ends, with any dtype, `steps_per_execution` and gradient accumulation, and
    also if loss scaling skips steps. To resume, pass `initial_epoch` to `fit`.

    With `total_steps`, progress is `optimizer.iterations / total_steps`. The
    iterations are saved with the optimizer, so one schedule can span several
    calls of `fit`, and a resumed run continues where it was. They count
    updates of the weights: gradient accumulation has fewer of them than
    batches, and a step that loss scaling skips does not count.

    Within an epoch values lie on a grid of about `TOLERANCE`, so that few of
    the steps assign one and the value in force is a function of the progress
    alone; at the end of an epoch it is the exact one. The epoch's logs hold
    that as `keep_prob`, of the layers that drop most: put this callback
    before those that write the logs down, such as `CSVLogger`.

    A subclassed model may create DropBlock layers only when it is first
    called. On TensorFlow that is in the first step of `fit`, which then uses
    their final keep_prob; the schedule sets them from the second step on. Call
    such a model once before `fit` to avoid this.

    Args:
        schedule: function of progress in [0, 1] that gives a strength in
            [0, 1]: see `keras_dropblock.schedules`.
        total_steps: optimizer steps at which the schedule ends, counted from
            the optimizer's first, int >= 1. None: it ends with the `fit`.

    Raises:
        ValueError: in `fit`, if the model has no DropBlock layer (checked
            again after the first step if some layers are not built before),
            if `total_steps=None` and the length of an epoch is unknown, or if
            the schedule leaves [0, 1].

    Example:
        >>> model = keras_dropblock.models.WRN(16, 4, keep_prob=0.9)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(x, y, epochs=3, callbacks=[KeepProbScheduler()])

    Reference:
        Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 3.1:
        keep_prob falls linearly from 1 to its final value over the whole
        training.
    """

    # A change of keep_prob this small is no change: about one unit in a
    # 16 x 16 map of 40 channels. An assignment is not free.
    TOLERANCE = 1e-4

    def __init__(self, schedule=schedules.linear, total_steps=None):
        super().__init__()
        if total_steps is not None and not masks.is_positive_int(total_steps):
            raise ValueError(
                "`total_steps` must be an integer >= 1, or None for the whole "
                f"of the fit. Received: total_steps={total_steps!r}."
            )
        self.schedule = schedule
        self.total_steps = total_steps

    def on_train_begin(self, logs=None):
        built = all(layer.built for layer in self.model._flatten_layers())
        self._find_layers(all_exist=built)
        self._step_begun = False
        if self.total_steps is None and self.params.get("steps") is None:
            raise ValueError(
                "`total_steps=None` needs to know the length of an epoch, and "
                "the data do not tell theirs. Pass total_steps to "
                "KeepProbScheduler or steps_per_epoch to fit."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._update(batch=0)

    def on_train_batch_begin(self, batch, logs=None):
        if not self._all_exist and self._step_begun:
            self._find_layers(all_exist=True)
            self._update(batch)
        elif self._strength_on_grid(batch) != self._strength_now:
            self._update(batch)
        self._step_begun = True

    def on_epoch_end(self, epoch, logs=None):
        if not self._all_exist:
            self._find_layers(all_exist=True)
        steps = self.params.get("steps") or 0
        self._read_iterations(steps)
        self._assign(self._strength(steps))
        if logs is not None:
            logs.update(self.now)

    def _find_layers(self, all_exist):
        """Find out how much the layers drop, and require one.

        Args:
            all_exist: whether the model has created all of its layers.
        """
        self._all_exist = all_exist
        layers = dropblock_layers(self.model)
        if all_exist and not layers:
            raise ValueError(
                "KeepProbScheduler found no DropBlock layer in model "
                f"{self.model.name!r}. Build it with keep_prob < 1 (1.0 adds "
                "no DropBlock layer), or leave this callback out."
            )
        self._drop_rate = max(
            (1.0 - x.final_keep_prob for x in layers), default=0.0
        )
        self._intervals = max(math.ceil(self._drop_rate / self.TOLERANCE), 1)

    def _progress(self, batch):
        """Share of the schedule that is done when a batch begins."""
        if self.total_steps is not None:
            return (self._step_of_batch_0 + batch) / self.total_steps
        return self._share_of_fit(batch)

    def _share_of_fit(self, batch):
        """Share of the batches of the fit before a batch of this epoch."""
        steps, epochs = self.params["steps"], self.params["epochs"]
        return (self._epoch * steps + batch) / (epochs * steps)

    def _read_iterations(self, batch):
        """Note the optimizer's step at this batch, if the schedule needs it.

        Reading the counter waits for the step in flight, so between updates
        batches are counted on from it.
        """
        if self.total_steps is not None:
            # Through `self.model`, whose property brings the state of a JAX
            # run up to date.
            iterations = self.model.optimizer.iterations
            iterations = int(keras.ops.convert_to_numpy(iterations))
            self._step_of_batch_0 = iterations - batch

    def _strength(self, batch):
        progress = self._progress(batch)
        strength = float(self.schedule(min(max(progress, 0.0), 1.0)))
        if not 0.0 <= strength <= 1.0:
            raise ValueError(
                "`schedule` must give strengths in [0, 1]. Received: "
                f"{strength} at progress={progress}."
            )
        return strength

    def _strength_on_grid(self, batch):
        return round(self._strength(batch) * self._intervals) / self._intervals

    def _update(self, batch):
        """Set every layer to what is in force at this batch."""
        self._read_iterations(batch)
        self._strength_now = self._strength_on_grid(batch)
        self._assign(self._strength_now)

    def _assign(self, strength):
        for layer in dropblock_layers(self.model):
            layer.keep_prob = 1.0 - strength * (1.0 - layer.final_keep_prob)
        # Not read back from a layer: that waits for the step in flight.
        self.now = {"keep_prob": 1.0 - strength * self._drop_rate}


class KeepProbOfRun(KeepProbScheduler):
    """The schedule of a run, whose fits may begin in the middle of an epoch.

    Args:
        schedule: as in `KeepProbScheduler`.
        batches: the `data.batches.Batches` of a whole epoch. `EpochOfData`
            goes before this callback.
    """

    def __init__(self, schedule, batches):
        super().__init__(schedule)
        self.batches = batches
        self.steps_per_epoch = len(batches)

    def _share_of_fit(self, batch):
        epoch, step = self.batches.epoch, self.batches.first_batch + batch
        steps, epochs = self.steps_per_epoch, self.params["epochs"]
        return (epoch * steps + step) / (epochs * steps)


class EpochOfData(keras.callbacks.Callback):
    """Tells `data.batches.Batches` which epoch begins, also after a resume."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


class LogSpeed(keras.callbacks.Callback):
    """Writes the images a second of training to the logs.

    The first step of an epoch does not count: it compiles, or waits for data.
    Nor do the last one, which evaluation follows, and evaluation itself. An
    epoch of fewer than three steps has no speed, and logs 0.

    Args:
        batch_size: images in a step, over all replicas.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.now = {"images_per_second": 0.0}
        self._first_batch = None

    # As a batch begins: to be told of its end, Keras waits for its loss.
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
    """Writes the rate that an epoch began with to its logs."""

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.now = {"learning_rate": float(keras.ops.convert_to_numpy(rate))}

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.now)


class ShowOnBar(keras.callbacks.Callback):
    """Shows on Keras's progress bar what others log at the end of an epoch.

    For a bar alone: to hand a batch's logs to a callback, Keras waits for its
    loss.

    Args:
        others: callbacks with a dict `now`, which go before this one.
    """

    def __init__(self, others):
        super().__init__()
        self.others = others

    def on_train_batch_end(self, batch, logs=None):
        for other in self.others:
            logs.update(other.now)


class WriteHistory(keras.callbacks.Callback):
    """Adds the logs of each epoch to a CSV file, whole or not at all."""

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        before = self.path.read_text("utf-8") if self.path.exists() else ""
        added = io.StringIO()
        writer = csv.DictWriter(
            added, ["epoch", *sorted(logs)], lineterminator="\n"
        )
        if not before:
            writer.writeheader()
        writer.writerow({"epoch": epoch, **logs})
        files.write_text(self.path, before + added.getvalue())


class SaveWeights(keras.callbacks.Callback):
    """Saves the weights after each epoch, whole or not at all.

    Args:
        path: ends in `.weights.h5`.
        on_one_device: gives a context of the model that is to be saved.
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
