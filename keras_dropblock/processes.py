"""Several processes of JAX that train one model, on one host or on many.

Each runs the same program on its own devices. What all must do together (a
step, a value for a variable that all have) each does in the same order; what
one does alone (writing files) touches no array that all share, but to read it.
"""

import contextlib
import os
import sys
import time

import keras
import numpy as np

# After so long without a sign of life, a process is given up by the others.
HEARTBEAT_SECONDS = 30
# So long the first process outlives the others that stop with it.
GRACE_SECONDS = 3


class LostError(RuntimeError):
    """Another process has stopped, and this one cannot go on without it."""


def join(coordinator, count, index):
    """Make this process one of several, before JAX touches a device.

    Waits until all are there, five minutes at most: then JAX ends the process
    with a report of its own.

    Args:
        coordinator: `host:port` at which the first process listens, and all
            others reach it.
        count: number of processes, int >= 2.
        index: which this one is, from 0.

    Raises:
        ValueError: if the arguments or the backend do not allow it.
    """
    if ":" not in coordinator or not coordinator.rsplit(":")[-1].isdigit():
        raise ValueError(
            "`coordinator` must read host:port, as all processes reach the "
            f"first one. Received: coordinator={coordinator!r}."
        )
    if count < 2 or not 0 <= index < count:
        raise ValueError(
            "`processes` must be >= 2, and `process` one of 0 to processes - "
            f"1. Received: processes={count}, process={index}."
        )
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Several processes need the JAX backend: set KERAS_BACKEND=jax. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    import jax

    print(
        f"Process {index} of {count} (from 0) waits for the others at "
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
    """Which of them this is, from 0."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def is_first():
    """Whether this is the process that writes for all."""
    return index() == 0


def difference(text):
    """How the processes' texts differ, told alike on all; None if they agree.

    Args:
        text: some lines.
    """
    texts = [content.decode().splitlines() for content in _gather(text)]
    for i, lines in enumerate(texts):
        if lines != texts[0]:
            here = [line for line in lines if line not in texts[0]]
            there = [line for line in texts[0] if line not in lines]
            return f"Process {i} has {here}, process 0 has {there}."
    return None


def from_first(make):
    """Call a function in the first process alone, and give all its result.

    Args:
        make: function without arguments that gives bytes or None, and touches
            no array of several processes but to read it.

    Returns:
        The bytes, or None.

    Raises:
        LostError: in the other processes, if the function raises.
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
        raise LostError(f"The first process stopped: {content.decode()}")
    return content


def in_first(function):
    """Call a function in the first process alone; the others wait for it.

    Returns:
        What it gives in the first process, None in the others.

    Raises:
        LostError: as `from_first`.
    """
    results = []
    from_first(lambda: results.append(function()))
    return results[0] if results else None


_NOTHING, _BYTES, _FAILED = range(3)


def _broadcast(array):
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(array)


def _gather(text):
    """The bytes of every process's text."""
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), "uint8")
    sizes = multihost_utils.process_allgather(np.array([len(content)]))[:, 0]
    padded = np.zeros(sizes.max(), "uint8")
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def losses_told():
    """A context in which the loss of another process is a `LostError`.

    It shows where the processes next work together. Where they do not, or
    wait for each other without a connection that breaks, JAX ends the process
    itself (SIGABRT) when it hears no more of the other one.
    """
    if count() == 1:
        yield
        return
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # Some come as ValueError, from where NumPy waits for their result.
        of_jax = isinstance(error, jax.errors.JaxRuntimeError)
        if not of_jax and not str(error).startswith("UNKNOWN: "):
            raise
        raise LostError(
            "The processes cannot go on together: most likely another one has "
            "stopped, and what it printed says why. The same command on all "
            f"hosts goes on after the last backup. JAX says: {error}"
        ) from error


def asked_to_stop(question):
    """Whether all processes shall stop here, since one got SIGTERM.

    JAX takes the signal, tells the other processes and finds the next
    question that none of them has passed.

    Args:
        question: how often this was asked, in every process at the same
            places.
    """
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(question)


def leave(code):
    """End this process at once if it is one of several that have failed.

    At the regular end of Python it would wait for the others, who may wait
    for it.
    """
    if count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        # With it goes the coordinator, without which JAX ends the others
        # before they have said why they stop.
        time.sleep(GRACE_SECONDS)
    os._exit(code)
