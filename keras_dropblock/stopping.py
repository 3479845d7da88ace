"""Stopping a run before its end so that it can go on."""

import math
import os
import signal
import threading

import keras

from keras_dropblock import processes
from keras_dropblock.backup import NotFiniteError, Place, require_finite


class Interrupted(Exception):
    """A run that stopped because it was asked to, with a backup.

    `exit_code` is the one by which shells tell it: 130 for Ctrl-C, 143 for
    SIGTERM.
    """

    def __init__(self, request, place):
        super().__init__(
            f"Stopped by {request.name} after {place}, which is backed up. The "
            "same command on the same work directory goes on."
        )
        self.exit_code = 128 + request


class StopRequests:
    """Takes SIGTERM and Ctrl-C for a request while its context lasts.

    A second one acts at once, as it would have without. Outside the main
    thread, where Python allows no handlers, and for a signal that is ignored
    nothing changes.

    Attributes:
        received: the signal that came, `signal.Signals`, or None.
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
        """The signal for which to stop here, or None."""
        return self.received

    def _take(self, number, frame):
        self.__exit__()
        self.received = signal.Signals(number)
        # Not `print`, which a signal may have caught in the midst of one.
        os.write(
            2,
            f"\n{self.received.name}: stopping with a backup after this step, "
            "or after validation. Once more stops at once.\n".encode(),
        )


class SharedStopRequests(StopRequests):
    """The same for several processes: one that is asked to stop stops all.

    JAX takes SIGTERM and has all processes stop after one step, a second or
    two later; a second SIGTERM does nothing more. Ctrl-C becomes a SIGTERM.
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
        self.received = None  # not before all have agreed on the step
        signal.raise_signal(signal.SIGTERM)


def stop_requests():
    """Of this process alone, or of all that train together."""
    return StopRequests() if processes.count() == 1 else SharedStopRequests()


class StopWhenAsked(keras.callbacks.Callback):
    """Ends the run after the step in which it was asked to, with a backup.

    After the last step of an epoch the epoch is finished first, validation
    too. Goes after `Backup` in the list.

    Args:
        requests: from `stop_requests`.
        backup: `Backup`.
        batches: the `data.batches.Batches` that the run trains on.

    Raises:
        Interrupted: in `fit`.
    """

    def __init__(self, requests, backup, batches):
        super().__init__()
        self.requests = requests
        self.backup = backup
        self.batches = batches

    def on_train_batch_begin(self, batch, logs=None):
        request = self.requests.due()
        if request:
            place = Place.in_epoch(self.batches, batch)
            if batch:
                self.backup.save(place)
            raise Interrupted(request, place)

    def on_epoch_end(self, epoch, logs=None):
        request = self.requests.due()
        if request:
            raise Interrupted(request, Place(epoch + 1, 0))


class StopUnlessFinite(keras.callbacks.Callback):
    """Ends the run when its loss is infinite or no number.

    The mean loss of the epoch so far is looked at every `EVERY` steps, since
    to read it waits for the device, and at the end of each epoch; then so are
    the weights. Goes before `SaveWeights` and `Backup` in the list.

    Args:
        batches: the `data.batches.Batches` that the run trains on.

    Raises:
        NotFiniteError: in `fit`; it names the step.
    """

    EVERY = 100

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self._finite_after = Place.in_epoch(self.batches, 0)
        self._looked_at = 0

    def on_train_batch_begin(self, batch, logs=None):
        # Not a remainder: several steps an execution pass over its zeros.
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
            raise NotFiniteError(
                f"The loss is {loss} after {place}; it was finite after "
                f"{self._finite_after}. The last good backup stays, but the "
                "same command would come here again: train in another work "
                "directory, for instance with a lower `learning_rate`."
            )
