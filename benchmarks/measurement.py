"""Time functions side by side, and measure memory."""

import random
import re
import resource
import statistics
import sys
import time

import shared_flags


def calls_before(mode):
    """Number of calls of a function in `mode` before its time is measured.

    One call compiles. A graph of TensorFlow needs a hundred: its executor
    hands an op to another thread if it expects more than 8,000 cycles. It
    expects 10^8 at first, and keeps nine tenths of that in each call, so that
    even an op without any cost is run in place only after ninety calls
    (`ExecutorImpl::KernelStats` in TensorFlow's executor.cc).
    """
    if mode.startswith("TF graph") and not shared_flags.QUICK.value:
        return 100
    return 1


def interleave(functions, seconds, most_rounds=50, before=None):
    """Time functions in turn, so that other load affects all of them alike.

    The order is random in each round, because a function that leaves the
    caches full of its own data makes the next one slower.

    Args:
        functions: dict from name to a function without arguments that returns
            when its work is done.
        seconds: approximate time for all rounds.
        most_rounds: maximum number of rounds. The minimum is 3.
        before: dict from name to the number of calls before the first round,
            which compile the function and warm up caches. A function that is
            not in it is called once.

    Returns:
        A dict from name to a list of seconds, one for each round.
    """
    times = {name: [] for name in functions}
    for name, function in functions.items():
        for _ in range((before or {}).get(name, 1)):
            function()
    order = list(functions)
    rng = random.Random(0)
    start = time.perf_counter()
    rounds = most_rounds
    while len(times[order[0]]) < rounds:
        rng.shuffle(order)
        for name in order:
            begin = time.perf_counter()
            functions[name]()
            times[name].append(time.perf_counter() - begin)
        done = len(times[name])
        spent = time.perf_counter() - start
        rounds = min(most_rounds, max(3, int(seconds / spent * done)))
    return times


def runnable(functions, peer):
    """Leave out a function that fails, if it is that of a peer.

    Args:
        functions: dict from name to a function without arguments.
        peer: name of the only function that may fail.

    Returns:
        The functions without that of a failing peer, and a dict from its name
        to the reason, or an empty one.
    """
    found, skipped = {}, {}
    for name, function in functions.items():
        try:
            function()
        except Exception as error:
            if name != peer:
                raise
            skipped[name] = _reason(error)
        else:
            found[name] = function
    return found, skipped


def _reason(error):
    """The cause of an error in one line, without the text that Keras adds."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.sub(r"Exception encountered when calling .*\s+", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"\w+Error: ", line)]
    return causes[-1] if causes else f"{type(error).__name__}: {lines[0]}"


def medians(times):
    """Median time of each function, in milliseconds."""
    return {
        name: round(statistics.median(values) * 1e3, 4)
        for name, values in times.items()
    }


def peak_memory_mb():
    """Peak memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
