"""Stop a run early, on a signal or when it diverges."""

import math
import os
import signal
import threading

import keras

from keras_dropblock.errors import DivergedError, Interrupted
from keras_dropblock.training import processes
from keras_dropblock.training.checkpoint import Place, require_finite


class StopRequests:
    """A context in which SIGTERM and Ctrl-C request a stop.

    A second signal has its usual effect. Ignored signals stay ignored, and
    outside the main thread, where Python allows no signal handlers, the
    context does nothing.

    Attributes:
        received: the signal received, `signal.Signals`, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_):
        while self._before:
            signal.signal(*self._before.popitem())

    def due(self):
        """The signal that requests a stop at this step, or None."""
        return self.received

    def _take(self, number, frame):
        self.__exit__()
        self.received = signal.Signals(number)
        # Not `print`: the signal may have interrupted a `print`, which is not
        # reentrant.
        os.write(
            2,
            f"\n{self.received.name}: stopping after this step, or after the "
            "evaluation, with a checkpoint. A second signal stops "
            "immediately.\n".encode(),
        )


class SharedStopRequests(StopRequests):
    """Stop requests for several processes: a signal to one stops all.

    JAX handles SIGTERM and makes all processes stop after the same step, a
    second or two later. A second SIGTERM has no effect. Ctrl-C is turned into
    SIGTERM.
    """

    SIGNALS = (signal.SIGINT,)

    def __init__(self):
        super().__init__()
        self._questions = 0

    def due(self):
        self._questions += 1
        if processes.asked_to_stop(self._questions):
            self.received = signal.SIGTERM
        return self.received

    def _take(self, number, frame):
        super()._take(number, frame)
        self.received = None  # set in `due`, once all agree on the step
        signal.raise_signal(signal.SIGTERM)


def stop_requests():
    """The stop requests of one process, or those shared by several."""
    return StopRequests() if processes.count() == 1 else SharedStopRequests()


class StopWhenAsked(keras.callbacks.Callback):
    """Saves a checkpoint and stops the run when a stop is requested.

    The run stops after the current step. After the last step of an epoch, it
    first finishes the epoch, including its evaluation. This callback must
    come after `Checkpoint` in the list.

    Args:
        requests: from `stop_requests`.
        checkpoint: `Checkpoint`.
        batches: the `data.batches.Batches` that the run trains on.

    Raises:
        Interrupted: in `fit`.
    """

    def __init__(self, requests, checkpoint, batches):
        super().__init__()
        self.requests = requests
        self.checkpoint = checkpoint
        self.batches = batches

    def on_train_batch_begin(self, batch, logs=None):
        request = self.requests.due()
        if request:
            place = Place.in_epoch(self.batches, batch)
            if batch:
                self.checkpoint.save(place)
            raise Interrupted(request, place)

    def on_epoch_end(self, epoch, logs=None):
        request = self.requests.due()
        if request:
            raise Interrupted(request, Place(epoch + 1, 0))


class StopIfDiverged(keras.callbacks.Callback):
    """Stops the run when its loss or weights are NaN or infinite.

    The mean loss of the epoch is checked every `EVERY` steps, since reading
    it waits for the device. At the end of each epoch, the loss and the
    weights are checked. This callback must come before `SaveWeights` and
    `Checkpoint` in the list.

    Args:
        batches: the `data.batches.Batches` that the run trains on.

    Raises:
        DivergedError: in `fit`. The message names the step.
    """

    EVERY = 100

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self._finite_after = Place.in_epoch(self.batches, 0)
        self._looked_at = 0

    def on_train_batch_begin(self, batch, logs=None):
        # Not `batch % EVERY == 0`: with `steps_per_execution` > 1, `batch`
        # can skip the multiples.
        if batch - self._looked_at >= self.EVERY:
            self._looked_at = batch
            loss = self.model.get_metrics_result()["loss"]
            place = Place.in_epoch(self.batches, batch)
            self._check(float(keras.ops.convert_to_numpy(loss)), place)
            self._finite_after = place

    def on_epoch_end(self, epoch, logs=None):
        place = Place(epoch + 1, 0)
        self._check(logs["loss"], place)
        require_finite(self.model.get_weights(), place)

    def _check(self, loss, place):
        if not math.isfinite(loss):
            raise DivergedError(
                f"The run diverged: the loss is {loss} after {place}; it was "
                f"finite after {self._finite_after}. The last checkpoint is "
                "kept, but running the same command again diverges again. "
                "Train in another work directory, for instance with a lower "
                "`learning_rate`."
            )
