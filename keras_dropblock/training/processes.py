"""Train one model in several JAX processes, on one host or on many.

Each process runs the same program on its own devices. All processes must
execute collective operations (a train step, an assignment to a shared
variable) in the same order. Code that runs in one process alone, such as
writing files, may read shared arrays but must not modify them.
"""

import contextlib
import os
import sys
import time

import keras
import numpy as np

from keras_dropblock.errors import PeerLostError

# A process that sends no heartbeat for this long counts as dead.
HEARTBEAT_SECONDS = 30
# When all processes stop, the primary process exits this much later.
GRACE_SECONDS = 3


def join(coordinator, count, index):
    """Connect this process to the others. Call it before JAX uses a device.

    Waits until all processes have joined. After five minutes JAX aborts the
    process with its own error message.

    Args:
        coordinator: `host:port` where the primary process listens. All other
            processes must be able to reach it.
        count: number of processes, int >= 2.
        index: index of this process, from 0. Process 0 is the primary one.

    Raises:
        ValueError: if an argument is invalid or the backend is not JAX.
    """
    if ":" not in coordinator or not coordinator.rsplit(":")[-1].isdigit():
        raise ValueError(
            "`coordinator` must read host:port, the address at which all "
            "processes can reach process 0. Received: "
            f"coordinator={coordinator!r}."
        )
    if count < 2 or not 0 <= index < count:
        raise ValueError(
            "`processes` must be >= 2, and `process` must be from 0 to "
            f"processes - 1. Received: processes={count}, process={index}."
        )
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Several processes need the JAX backend: set KERAS_BACKEND=jax. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    import jax

    print(
        f"Process {index} of 0 to {count - 1} is waiting for the others at "
        f"{coordinator}.",
        flush=True,
    )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator,
        count,
        index,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )


def count():
    """Number of processes that train together."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def index():
    """Index of this process, from 0."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def is_first():
    """Whether this is the primary process, which writes all files."""
    return index() == 0


def difference(text):
    """Compare a text across processes.

    Args:
        text: the text of this process, one or more lines.

    Returns:
        A sentence about the first process whose text differs from that of
        process 0, the same in every process. None if all texts are equal.
    """
    texts = [content.decode().splitlines() for content in _gather(text)]
    for i, lines in enumerate(texts):
        if lines != texts[0]:
            here = [line for line in lines if line not in texts[0]]
            there = [line for line in texts[0] if line not in lines]
            return f"Process {i} has {here}, process 0 has {there}."
    return None


def from_first(make):
    """Call a function in the primary process and broadcast its result.

    Args:
        make: function without arguments that returns bytes or None. It may
            read arrays that the processes share but must not modify them.

    Returns:
        The result of `make`, in every process.

    Raises:
        PeerLostError: in the other processes, if `make` raises an exception.
            The primary process raises that exception itself.
    """
    if count() == 1:
        return make()
    content, error = None, None
    if is_first():
        try:
            content = make()
        except Exception as caught:
            error = caught
            content = f"{type(error).__name__}: {error}".encode()
    outcome = _NOTHING if content is None else _FAILED if error else _BYTES
    size = 0 if content is None else len(content)
    outcome, size = map(int, _broadcast(np.array([outcome, size])))
    if outcome == _NOTHING:
        return None
    array = np.zeros(size, "uint8")
    if is_first():
        array[:] = np.frombuffer(content, "uint8")
    content = _broadcast(array).tobytes()
    if error:
        raise error
    if outcome == _FAILED:
        raise PeerLostError(f"Process 0 stopped: {content.decode()}")
    return content


def in_first(function):
    """Call a function in the primary process while the others wait.

    Returns:
        The result of the function in the primary process, None in the others.

    Raises:
        PeerLostError: as `from_first`.
    """
    results = []
    from_first(lambda: results.append(function()))
    return results[0] if results else None


_NOTHING, _BYTES, _FAILED = range(3)


def _broadcast(array):
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(array)


def _gather(text):
    """The encoded texts of all processes, in the order of their indices."""
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), "uint8")
    sizes = multihost_utils.process_allgather(np.array([len(content)]))[:, 0]
    padded = np.zeros(sizes.max(), "uint8")
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def peer_failures_raised():
    """Raise `PeerLostError` when another process stops.

    The error appears at the next collective operation. If there is none, or
    if the connection does not break, JAX aborts this process (SIGABRT) once
    the heartbeat of the other one times out.
    """
    if count() == 1:
        yield
        return
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # Errors that surface while NumPy waits for a result are ValueErrors.
        of_jax = isinstance(error, jax.errors.JaxRuntimeError)
        if not of_jax and not str(error).startswith("UNKNOWN: "):
            raise
        raise PeerLostError(
            "A collective operation failed. Most likely another process has "
            "stopped: see its output for the cause. Run the same command on "
            "all hosts to resume from the last checkpoint. JAX reports: "
            f"{error}"
        ) from error


def asked_to_stop(question):
    """Whether all processes should stop here, because one received SIGTERM.

    JAX handles the signal, notifies the other processes and chooses the next
    call that no process has made yet.

    Args:
        question: number of this call, from 1. Every process must make the
            calls at the same points of the run.
    """
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(question)


def leave(code):
    """Exit immediately if this process is one of several.

    At a normal exit JAX would wait for the other processes, which may be
    waiting for this one.

    Args:
        code: exit code, int.
    """
    if count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        # This process runs the coordinator. If it exits first, JAX aborts the
        # others before they have printed their errors.
        time.sleep(GRACE_SECONDS)
    os._exit(code)
