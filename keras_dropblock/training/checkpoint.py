"""Checkpoints: the complete state of a run in one file."""

import hashlib
import io
import pathlib
import time
import tomllib
import typing
import warnings

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.errors import DivergedError, RecipeError, WorkdirError
from keras_dropblock.training import processes


class Place(typing.NamedTuple):
    """Position of a run: finished epochs, finished steps of the next one."""

    epoch: int
    step: int

    @classmethod
    def in_epoch(cls, batches, batch):
        """The place just before `batch` of this `fit`'s current epoch."""
        return cls(batches.epoch, batches.first_batch + batch)

    def __str__(self):
        if self.step:
            return f"step {self.step} of epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else "no step"


def require_finite(arrays, place):
    """Raise `DivergedError` if an array has NaN or infinite values."""
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            if not np.isfinite(array).all():
                raise DivergedError(
                    f"The run diverged: weights or loss are NaN or infinite "
                    f"after {place}. The last checkpoint is kept, but running "
                    "the same command again diverges again. Train in another "
                    "work directory, for instance with a lower "
                    "`learning_rate`."
                )


class Checkpoint(keras.callbacks.Callback):
    """Saves checkpoints after each epoch and, at intervals, within epochs.

    A checkpoint holds the weights and the states of the optimizer, the
    metrics and the seed generators; Keras's `BackupAndRestore` omits the seed
    generators. It is written atomically to `last.npz`, and the one before is
    kept as `previous.npz`. Each file ends with its SHA-256 digest.

    If the order of the data is a function of the epoch, a resumed run ends
    with the same weights as an uninterrupted one. They are equal bit for bit
    where the backend is deterministic. With several processes, only the
    primary process reads and writes the files.

    Args:
        folder: folder of the two files. It is created if it does not exist.
        recipe: `Recipe` of the run. Checkpoints of other recipes are rejected.
        batches: the `data.batches.Batches` that the run trains on.
        minutes: minimum time between checkpoints within an epoch, >= 0; 0
            saves one after every step.
    """

    def __init__(self, folder, recipe, batches, minutes=10.0):
        super().__init__()
        if not minutes >= 0:
            raise ValueError(
                "`minutes` between two checkpoints must be >= 0; 0 saves one "
                f"every step. Received: minutes={minutes!r}."
            )
        self.last = pathlib.Path(folder) / "last.npz"
        self.previous = pathlib.Path(folder) / "previous.npz"
        self.recipe = recipe
        self.batches = batches
        self.steps_per_epoch = len(batches)
        self.seconds = 60 * minutes
        self._metrics = []

    def restore(self, model):
        """Load the last usable checkpoint into a compiled model.

        Returns:
            The `Place` to resume from. None if there is no checkpoint.

        Raises:
            WorkdirError: if there are checkpoints but none is usable.
        """
        content = processes.from_first(lambda: self._last_good(model))
        return None if content is None else self._load(model, content)

    def _last_good(self, model):
        """Content of the last checkpoint that fits the model, or None."""
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
                    f"The checkpoint {problems[0]}. The run resumes from the "
                    f"previous one, saved after {place}.",
                    stacklevel=5,
                )
            return content
        if problems:
            raise WorkdirError(
                f"No checkpoint can be used: {'; '.join(problems)}. Restore a "
                "good copy of the file, or train in another work directory."
            )
        return None

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        # Here and not in `restore`: `fit` resets the metrics at the start of
        # an epoch.
        if self._metrics:
            # On TensorFlow, they exist only after the first step.
            if len(self.model.metrics_variables) < len(self._metrics):
                self.model.test_on_batch(*self.batches[0])
            variables = self.model.metrics_variables
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = []

    # `on_train_batch_end` would force a device synchronization.
    def on_train_batch_begin(self, batch, logs=None):
        if batch and time.monotonic() - self._saved_at >= self.seconds:
            self.save(Place.in_epoch(self.batches, batch))

    def on_epoch_end(self, epoch, logs=None):
        self.save(Place(epoch + 1, 0))

    def save(self, place):
        """Write a checkpoint of the model at this place.

        Raises:
            DivergedError: if the weights are NaN or infinite. Nothing is
                written.
            WriteError: if the file cannot be written.
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
            recipe=np.array(self.recipe.to_toml()),
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
        """The place of a checkpoint. Raises `_Unusable` for another run's."""
        arrays = _unpacked(content)
        if not self._is_ours(str(arrays["recipe"])):
            raise _Unusable("belongs to another recipe")
        steps = int(arrays["steps_per_epoch"])
        if steps != self.steps_per_epoch:
            raise _Unusable(
                f"belongs to other data: an epoch had {steps} steps, "
                f"now it has {self.steps_per_epoch}"
            )
        # A second `build` would duplicate the variables of a
        # LossScaleOptimizer.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        shapes = [value.shape for value in _values("state", arrays)]
        if shapes != [tuple(v.shape) for v in _state(model)]:
            raise _Unusable("belongs to another network")
        return Place(*arrays["place"].tolist())

    def _is_ours(self, text):
        """Whether the recipe stored in a checkpoint equals this run's."""
        try:
            values = tomllib.loads(text)
            return type(self.recipe)().replaced(values, "") == self.recipe
        except (RecipeError, tomllib.TOMLDecodeError):
            return False

    def _load(self, model, content):
        arrays = _unpacked(content)
        values = _values("state", arrays)
        for variable, value in zip(_state(model), values, strict=True):
            variable.assign(value)
        self._metrics = _values("metrics", arrays)
        return Place(*arrays["place"].tolist())


class _Unusable(Exception):
    """A checkpoint cannot be used. The message continues after its path."""


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


def _arrays(kind, variables):
    return {
        f"{kind}_{i:04d}": keras.ops.convert_to_numpy(variable)
        for i, variable in enumerate(variables)
    }


def _values(kind, arrays):
    return [arrays[name] for name in sorted(arrays) if name.startswith(kind)]
