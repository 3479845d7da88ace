"""Tools for the fuzz tests: changed inputs, limits and counts.

Each case has a number, from which its seed is made, so it can be repeated. It
must give a defined answer or one of the project's own errors within a time
limit.
"""

import collections
import contextlib
import multiprocessing
import resource
import signal
import time
import traceback

# Longest error message that a terminal shows without scrolling.
MESSAGE = 2000
_SHOWN = 20  # faults to list in a failing test


def outcome(allowed, function, *arguments):
    """Call a function. Returns "accepted" or the name of an allowed error.

    Args:
        allowed: classes of allowed errors. `ValueError` does not include
            subclasses of other libraries (UnicodeDecodeError,
            JSONDecodeError).
        function, *arguments: the call.

    Raises:
        AssertionError: for any other error, or one without a proper message.
    """
    try:
        function(*arguments)
    except BaseException as error:
        kind = type(error)
        ours = kind.__module__.split(".")[0] in ("keras_dropblock", "kserve")
        own = kind in (allowed if isinstance(allowed, tuple) else (allowed,))
        if not isinstance(error, allowed) or not (ours or own):
            raise AssertionError(
                f"{kind.__name__}: {str(error)[:300]}\n"
                f"{''.join(traceback.format_tb(error.__traceback__)[-3:])}"
            ) from error
        message = str(error)
        assert 10 <= len(message) <= MESSAGE, (kind.__name__, message[:3000])
        return kind.__name__
    return "accepted"


@contextlib.contextmanager
def time_limit(seconds):
    """Raise an error in code that takes too long. Main thread only."""

    def stop(number, frame):
        raise AssertionError(f"It takes longer than {seconds} s.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Group:
    """Counts the cases of a group and limits the time of each.

    Args:
        name: name of the group, optionally followed by a colon and a part.
        record: pytest's `record_property`, which gets the line to print.
        seconds: time limit for one case in this process.
        megabytes: limit on the growth of this process's peak memory.
    """

    def __init__(self, name, record, seconds=20, megabytes=1000):
        self.name = name
        self.outcomes = collections.Counter()
        self.derived = 0
        self.faults = []
        self._record = record
        self._seconds = seconds
        self._megabytes = megabytes
        self._memory = most_memory()
        self.grown = 0
        self._slowest = 0.0

    def case(self, label, allowed, function, *arguments, derived):
        """Run one case in this process.

        Args:
            label: text that identifies the case.
            allowed, function, *arguments: see `outcome`.
            derived: whether the case is made from valid input.
        """
        started = time.monotonic()
        try:
            with time_limit(self._seconds):
                result = outcome(allowed, function, *arguments)
        except AssertionError as fault:
            result = "fault"
            self.faults.append(f"{label}: {fault}")
        self.count(result, derived, time.monotonic() - started)
        self.grown = most_memory() - self._memory
        return result

    def count(self, result, derived, seconds=0.0):
        self.outcomes[result] += 1
        self.derived += derived
        self._slowest = max(self._slowest, seconds)

    def apart(self, work, *arguments, seconds=60):
        """Run cases in a separate process, which they may crash.

        Args:
            work: a module-level function that yields once when it is ready
                and then, for each case, (result, derived, fault or None).
            *arguments: arguments of that function.
            seconds: time limit for one case.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(theirs, work, arguments))
        process.start()
        theirs.close()
        done = -1
        try:
            while True:
                if not ours.poll(seconds if done >= 0 else 120):
                    self.faults.append(
                        f"{work.__name__} {done}: longer than {seconds} s"
                    )
                    return
                message = ours.recv()
                if message is None:
                    return
                memory, took, report = message
                if done < 0:
                    memory_at_start = memory
                else:
                    result, derived, fault = report
                    self.count(result, derived, took)
                    if fault is not None:
                        self.faults.append(f"{work.__name__} {done}: {fault}")
                    grown = memory - memory_at_start
                    if grown > self._megabytes > self.grown:
                        self.faults.append(
                            f"{work.__name__} {done}: {grown:.0f} MB more"
                        )
                    self.grown = max(self.grown, grown)
                done += 1
        except EOFError:
            process.join(60)
            self.faults.append(
                f"{work.__name__} {done}: the process died, exit code "
                f"{process.exitcode}"
            )
        finally:
            process.kill()
            process.join()

    def close(self, at_least):
        """Print the counts. Fail if there are faults or too few cases."""
        total = self.outcomes.total()
        results = ", ".join(
            f"{n:,} {k}" for k, n in sorted(self.outcomes.items())
        )
        self._record("fuzz", (self.name.partition(":")[0], total, self.derived))
        self._record(
            "fuzz_line",
            f"fuzz {self.name}: {total:,} cases, {self.derived:,} from valid "
            f"input; {results}; the slowest {self._slowest:.1f} s, "
            f"{self.grown:.0f} MB more memory",
        )
        listed = "\n".join(self.faults[:_SHOWN])
        assert not self.faults, f"{len(self.faults)} faults:\n{listed}"
        assert total >= at_least
        assert 3 * self.derived >= total
        assert self.grown <= self._megabytes
        # If all or no cases were accepted, the test would show nothing.
        assert 0 < self.outcomes["accepted"] < total


def most_memory():
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _send(connection, work, arguments):
    """Run cases and send the outcome of each."""
    started = time.monotonic()
    for report in work(*arguments):
        now = time.monotonic()
        connection.send((most_memory(), now - started, report))
        started = time.monotonic()
    connection.send(None)


def judged(allowed, function, *arguments):
    """Call a function, for `Group.apart`. Returns (result, fault or None)."""
    try:
        return outcome(allowed, function, *arguments), None
    except AssertionError as fault:
        return "fault", str(fault)


# --- examples, and small changes to valid input


def several(examples):
    """Use the same examples in every run, without a database."""
    from hypothesis import (
        HealthCheck,
        settings,
    )  # not installed with the server

    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def pick(rng, options):
    return options[rng.integers(len(options))]


ODD_INTEGERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1)
ODD_INTEGERS += (2**63 - 1, 2**63, 2**64 - 1)


def damaged(rng, content, places=None):
    """Bytes with one to three small changes.

    Args:
        rng: `numpy.random.Generator`.
        content: bytes, not empty.
        places: indices at which changes may begin, or None for all.
    """
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not content:
            break
        at = int(rng.integers(len(content)))
        if places is not None:
            at = min(int(rng.choice(places)), len(content) - 1)
        _CHANGES[rng.integers(len(_CHANGES))](rng, content, at)
    return bytes(content)


def _cut(rng, content, at):
    del content[at:]


def _flip(rng, content, at):
    content[at] ^= 1 << int(rng.integers(8))


def _replace(rng, content, at):
    content[at] = int(rng.integers(256))


def _fill(rng, content, at):
    length = min(int(rng.integers(1, 33)), len(content) - at)
    content[at : at + length] = bytes([rng.choice((0, 255, 32))]) * length


def _remove(rng, content, at):
    del content[at : at + int(rng.integers(1, 33))]


def _repeat(rng, content, at):
    piece = content[at : at + int(rng.integers(1, 65))]
    content[at:at] = piece * int(rng.integers(1, 5))


def _insert(rng, content, at):
    content[at:at] = rng.bytes(int(rng.integers(1, 9)))


def _odd_integer(rng, content, at):
    size = int(rng.choice((1, 2, 4, 8)))
    number = ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))] % 2 ** (8 * size)
    order = str(rng.choice(("little", "big")))
    content[at : at + size] = number.to_bytes(size, order)


_CHANGES = (
    _cut,
    _flip,
    _flip,
    _replace,
    _fill,
    _remove,
    _repeat,
    _insert,
    _odd_integer,
)


ODD_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    2**64,
    -(10**30),
    10**400,
    "",
    " ",
    "0",
    "x",
    "é",
    "\0",
    "\x7f",
    "\ud800",
    "../up",
    "a" * 3000,
    "10",
    [],
    [0],
    [[]],
    {},
    [None],
    [1, 2, 3],
    [-1, 0, 1],
    ["a", "a"],
    [10**9] * 3,
    {"a": 1},
    {"": None},
    [1.5, 2.5, 3.5],
    ["x", 1, None],
)


def altered(rng, tree, deep=0.8):
    """A copy of JSON-like data with one to three places changed.

    Args:
        rng: `numpy.random.Generator`.
        tree: dicts, lists and values of JSON.
        deep: probability of going one level deeper instead of replacing the
            whole value.
    """
    for _ in range(rng.integers(1, 4)):
        tree = _altered_once(rng, tree, deep)
    return tree


def _altered_once(rng, tree, deep):
    if isinstance(tree, dict | list) and tree and rng.random() < deep:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = keys[rng.integers(len(keys))]
        copy = tree.copy()
        kind = rng.random()
        if kind < 0.12:
            del copy[key]
        elif kind < 0.2 and isinstance(tree, dict):
            copy[f"{key}s"] = copy.pop(key)
        elif kind < 0.25 and isinstance(tree, list):
            copy.append(copy[key])
        else:
            copy[key] = _altered_once(rng, copy[key], deep)
        return copy
    return ODD_VALUES[rng.integers(len(ODD_VALUES))]
