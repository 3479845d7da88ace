"""The callback that changes keep_prob during training."""

import math

import keras

from keras_dropblock import schedules
from keras_dropblock.layers import dropblock_layers, masks


class KeepProbScheduler(keras.callbacks.Callback):
    """Changes the keep_prob of every DropBlock layer during `fit`.

    Each layer gets `keep_prob = 1 - strength * (1 - final_keep_prob)`, where
    `strength = schedule(progress)`. By default, progress counts the batches of
    this `fit`: it is 0 when the first batch begins and 1 when the last epoch
    ends. This holds for any dtype, `steps_per_execution` and gradient
    accumulation, and also if loss scaling skips steps. To resume, pass
    `initial_epoch` to `fit`.

    With `total_steps`, progress is `optimizer.iterations / total_steps`. The
    iterations are saved with the optimizer, so one schedule can span several
    calls of `fit`, and a resumed run continues at the same progress. The
    iterations count updates of the weights: with gradient accumulation there
    are fewer updates than batches, and a step that loss scaling skips does
    not count.

    Within an epoch, keep_prob is rounded to a grid of about `TOLERANCE`.
    Therefore only few steps change it, and its value depends only on the
    progress. At the end of an epoch it is exact. It is then written to the
    logs as `keep_prob` (the lowest one, if layers differ). Put this callback
    before callbacks that read the logs, such as `CSVLogger`.

    A subclassed model may create its DropBlock layers only when it is first
    called. On TensorFlow this happens in the first step of `fit`. That step
    then uses their final keep_prob, and the schedule applies from the second
    step. To avoid this, call such a model once before `fit`.

    Args:
        schedule: function from progress in [0, 1] to a strength in [0, 1]:
            see `keras_dropblock.schedules`.
        total_steps: number of optimizer steps of the whole schedule, counted
            from the optimizer's first step, int >= 1. None: the schedule ends
            with the `fit`.

    Raises:
        ValueError: in `fit`, if the model has no DropBlock layer (checked
            again after the first step if some layers were not built before),
            if `total_steps=None` and the length of an epoch is unknown, or if
            the schedule returns a value outside [0, 1].

    Example:
        >>> model = keras_dropblock.models.WRN(16, 4, keep_prob=0.9)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(x, y, epochs=3, callbacks=[KeepProbScheduler()])

    Reference:
        Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 3.1:
        keep_prob falls linearly from 1 to its final value over the whole
        training.
    """

    # Smaller changes of keep_prob are not assigned, because an assignment
    # takes time. 1e-4 is about one unit in a 16 x 16 map of 40 channels.
    TOLERANCE = 1e-4

    def __init__(self, schedule=schedules.linear, total_steps=None):
        super().__init__()
        if total_steps is not None and not masks.is_positive_int(total_steps):
            raise ValueError(
                "`total_steps` must be an integer >= 1, or None for the whole "
                f"fit. Received: total_steps={total_steps!r}."
            )
        self.schedule = schedule
        self.total_steps = total_steps

    def on_train_begin(self, logs=None):
        built = all(layer.built for layer in self.model._flatten_layers())
        self._find_layers(all_exist=built)
        self._step_begun = False
        if self.total_steps is None and self.params.get("steps") is None:
            raise ValueError(
                "`total_steps` must not be None if the length of an epoch is "
                "unknown. Pass total_steps to KeepProbScheduler or "
                "steps_per_epoch to fit."
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
        """Find the highest drop rate among the DropBlock layers.

        Args:
            all_exist: whether the model has created all of its layers. If so,
                at least one must be a DropBlock layer.
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
        """Progress of the schedule at the beginning of a batch."""
        if self.total_steps is not None:
            return (self._step_of_batch_0 + batch) / self.total_steps
        return self._share_of_fit(batch)

    def _share_of_fit(self, batch):
        """Fraction of all batches of the fit that come before this batch."""
        steps, epochs = self.params["steps"], self.params["epochs"]
        return (self._epoch * steps + batch) / (epochs * steps)

    def _read_iterations(self, batch):
        """Read the optimizer's step at this batch, if the schedule needs it.

        Reading the counter waits until the current training step has ended.
        Between two updates of keep_prob, batches are therefore counted from
        the last value that was read.
        """
        if self.total_steps is not None:
            # Through `self.model.optimizer`: on JAX this property first
            # updates the variables from the training state.
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
        """Set the keep_prob of every layer to its value at this batch."""
        self._read_iterations(batch)
        self._strength_now = self._strength_on_grid(batch)
        self._assign(self._strength_now)

    def _assign(self, strength):
        for layer in dropblock_layers(self.model):
            layer.keep_prob = 1.0 - strength * (1.0 - layer.final_keep_prob)
        # Computed, because reading it from a layer would wait until the
        # current training step has ended.
        self.now = {"keep_prob": 1.0 - strength * self._drop_rate}
