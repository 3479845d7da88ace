"""Timing side by side, the machine it was done on, and the results file."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

from absl import flags

HERE = pathlib.Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy")

QUICK = flags.DEFINE_bool("quick", False, "A small part, to see that it runs.")
RESULTS = flags.DEFINE_string(
    "results", None, "File to write to; results/<machine>.json if not given."
)


def interleave(functions, seconds, most_rounds=50):
    """Time functions in turn, so that what slows the machine slows them all.

    Each is called once before, to compile and to warm caches.

    Args:
        functions: dict from name to a function without arguments that
            returns when its work is done.
        seconds: time to spend on the rounds, about.
        most_rounds: at most so many; at least three are made.

    Returns:
        Dict from name to a list of seconds, one for each round.
    """
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    start = time.perf_counter()
    rounds = most_rounds
    while len(times[next(iter(times))]) < rounds:
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - before)
        done = len(times[name])
        spent = time.perf_counter() - start
        rounds = min(most_rounds, max(3, int(seconds / spent * done)))
    return times


def medians(times):
    """Median of each function's rounds, in milliseconds."""
    return {
        name: round(statistics.median(values) * 1e3, 4)
        for name, values in times.items()
    }


def machine():
    """A name for this kind of machine that tells nothing else about it."""
    return f"{os.cpu_count()}-core-{platform.machine()}-cpu"


def record():
    """What a number must come with: hardware, versions and date."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory_gb": round(pages / 2**30),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.date.today().isoformat(),
    }


def _processor():
    """The processor's name, where the system tells it."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def save(benchmark, rows):
    """Put the rows of one benchmark into the results file."""
    path = pathlib.Path(RESULTS.value or HERE / "results" / f"{machine()}.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    results[benchmark] = {**record(), "quick": QUICK.value, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def in_process(script, *arguments, **environment):
    """Run a script of this folder in a process of its own.

    A backend is chosen when Keras is imported, and memory is counted by
    process. The script must print JSON as its last line.

    Returns:
        What that line holds.
    """
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])
