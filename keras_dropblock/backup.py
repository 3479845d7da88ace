"""Backups: all that the next step of a run depends on, in one file."""

import hashlib
import io
import pathlib
import time
import typing
import warnings

import keras
import numpy as np

from keras_dropblock import files, processes
from keras_dropblock.workdir import WorkdirError


class Place(typing.NamedTuple):
    """Where a run is: whole epochs done, and steps of the next one."""

    epoch: int
    step: int

    @classmethod
    def in_epoch(cls, batches, batch):
        """The place where batch `batch` of this fit's epoch begins."""
        return cls(batches.epoch, batches.first_batch + batch)

    def __str__(self):
        if self.step:
            return f"step {self.step} of epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else "no step"


class NotFiniteError(ArithmeticError):
    """A run whose loss or weights have become infinite or no numbers."""


def require_finite(arrays, place):
    """Raise NotFiniteError unless all numbers are finite, at this place."""
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            if not np.isfinite(array).all():
                raise NotFiniteError(
                    f"The weights or the loss are not finite after {place}. "
                    "The last good backup stays, but the same command would "
                    "come here again: train in another work directory, for "
                    "instance with a lower `learning_rate`."
                )


class Backup(keras.callbacks.Callback):
    """Backs up a run after each epoch, and within epochs from time to time.

    Weights, optimizer, the states of the seed generators, which Keras's
    BackupAndRestore leaves out, and those of the metrics go into one file,
    `last.npz`, that is written whole or not at all; the one before stays as
    `previous.npz`. Each ends in a digest of itself. With data whose order is a
    function of the epoch, a resumed run ends in the weights of an
    uninterrupted one, to the bit where the backend is deterministic. Of
    several processes the first reads and writes the files, for all.

    Args:
        folder: of the two files, made if it is not there.
        recipe: text that identifies the run; a backup of another is refused.
        batches: the `data.batches.Batches` that the run trains on.
        minutes: least time between backups within an epoch, >= 0; 0 backs up
            every step.
    """

    def __init__(self, folder, recipe, batches, minutes=10.0):
        super().__init__()
        if not minutes >= 0:
            raise ValueError(
                "`minutes` between two backups must be >= 0; 0 backs up every "
                f"step. Received: minutes={minutes!r}."
            )
        self.last = pathlib.Path(folder) / "last.npz"
        self.previous = pathlib.Path(folder) / "previous.npz"
        self.recipe = recipe
        self.batches = batches
        self.steps_per_epoch = len(batches)
        self.seconds = 60 * minutes
        self._metrics = []

    def restore(self, model):
        """Load the last good backup into a compiled model.

        Returns:
            The `Place` to go on from; None if there is no backup.

        Raises:
            WorkdirError: if there are backups and none can be used.
        """
        content = processes.from_first(lambda: self._last_good(model))
        return None if content is None else self._load(model, content)

    def _last_good(self, model):
        """Content of the last backup that fits the model, or None."""
        problems = []
        for path in (self.last, self.previous):
            if not path.exists():
                if path == self.last and self.previous.exists():
                    problems.append(f"{path} is missing")
                continue
            try:
                content = _read(path)
                place = self._check(model, content)
            except _Unusable as error:
                problems.append(f"{path} {error}")
                continue
            if problems:
                warnings.warn(
                    f"The backup {problems[0]}. The run goes on from the one "
                    f"before it, made after {place}.",
                    stacklevel=5,
                )
            return content
        if problems:
            raise WorkdirError(
                f"No backup can be used: {'; '.join(problems)}. Put a good one "
                "there, or train in another work directory."
            )
        return None

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        # Only now, since `fit` has just reset them.
        if self._metrics:
            variables = _metrics(self.model, len(self._metrics))
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = []

    # As a batch begins: to be told of its end, Keras waits for its loss.
    def on_train_batch_begin(self, batch, logs=None):
        if batch and time.monotonic() - self._saved_at >= self.seconds:
            self.save(Place.in_epoch(self.batches, batch))

    def on_epoch_end(self, epoch, logs=None):
        self.save(Place(epoch + 1, 0))

    def save(self, place):
        """Write the backup of the model at this place.

        Raises:
            NotFiniteError: for weights that are not; nothing is written.
            files.WriteError: if it cannot be written.
        """
        if not processes.is_first():
            return
        arrays = _arrays("state", _state(self.model))
        if place.step:
            arrays |= _arrays("metrics", self.model.metrics_variables)
        require_finite(arrays.values(), place)
        content = io.BytesIO()
        np.savez(
            content,
            recipe=np.array(self.recipe),
            place=np.array(place),
            steps_per_epoch=np.array(self.steps_per_epoch),
            **arrays,
        )
        content = content.getbuffer()
        self.last.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.last, keep_as=self.previous) as temporary:
            with open(temporary, "wb") as file:
                file.write(content)
                file.write(_digest(content))
        self._saved_at = time.monotonic()

    def _check(self, model, content):
        """The place of a backup; `_Unusable` if it is not this run's."""
        arrays = _unpacked(content)
        if str(arrays["recipe"]) != self.recipe:
            raise _Unusable("belongs to another recipe")
        steps = int(arrays["steps_per_epoch"])
        if steps != self.steps_per_epoch:
            raise _Unusable(
                f"belongs to other data: an epoch had {steps} steps, "
                f"now it has {self.steps_per_epoch}"
            )
        # Built twice, a LossScaleOptimizer has its own variables twice.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        shapes = [value.shape for value in _values("state", arrays)]
        if shapes != [tuple(v.shape) for v in _state(model)]:
            raise _Unusable("belongs to another network")
        return Place(*arrays["place"].tolist())

    def _load(self, model, content):
        arrays = _unpacked(content)
        values = _values("state", arrays)
        for variable, value in zip(_state(model), values, strict=True):
            variable.assign(value)
        self._metrics = _values("metrics", arrays)
        return Place(*arrays["place"].tolist())


class _Unusable(Exception):
    """A backup that cannot be used; reads on after its path."""


def _read(path):
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from error
    content, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if _digest(content) != digest:
        raise _Unusable("is truncated or altered")
    return content


def _unpacked(content):
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def _digest(content):
    return hashlib.sha256(content).digest()


_DIGEST_SIZE = hashlib.sha256().digest_size


def _state(model):
    """Every variable that training changes."""
    return [*model.variables, *model.optimizer.variables]


def _metrics(model, count):
    """The model's metric variables, which TensorFlow makes in the first step.

    Args:
        model: a compiled model.
        count: how many there are when they are made.
    """
    if len(model.metrics_variables) < count:
        nothing = np.zeros((1, model.output_shape[-1]), "float32")
        model.compute_metrics(None, nothing, nothing)
    return model.metrics_variables


def _arrays(kind, variables):
    return {
        f"{kind}_{i:04d}": keras.ops.convert_to_numpy(variable)
        for i, variable in enumerate(variables)
    }


def _values(kind, arrays):
    return [arrays[name] for name in sorted(arrays) if name.startswith(kind)]
