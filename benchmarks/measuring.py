"""Timing side by side, the machine it was done on, and the results file."""

import datetime
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import time

from absl import flags

HERE = pathlib.Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = (
    *("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy"),
    *("onnxruntime", "ai-edge-litert", "keras-cv"),
)

HERE_NOW = flags.DEFINE_bool(
    "here", False, "Measure in this process and print JSON."
)
ONLY = flags.DEFINE_list("only", list(BACKENDS), "Backends to measure.")
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


def machine(device):
    """A name for this kind of machine that tells nothing else about it."""
    device = re.sub(r"\W+", "_", device).lower()
    return f"{os.cpu_count()}-core-{platform.machine()}-{device}"


def record():
    """What a number must come with: hardware, versions, commit and date."""
    from keras_dropblock import versions

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory_gb": round(pages / 2**30),
        "versions": versions.of(PACKAGES),
        # Not results/, which the benchmark before this one has changed.
        "commit": versions.commit(*HERE.glob("*.py")),
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


def results_path(machine_name):
    """The results file of a machine, or the one that a flag names."""
    default = HERE / "results" / f"{machine_name}.json"
    return pathlib.Path(RESULTS.value or default)


def save(benchmark, rows, device="cpu"):
    """Put the rows of one benchmark into this machine's results file.

    Returns:
        Path of that file; None for a quick run, which is no result.
    """
    if QUICK.value:
        return None
    path = results_path(machine(device))
    results = json.loads(path.read_text()) if path.exists() else {}
    results[benchmark] = {**record(), "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return path


def markdown(table):
    """A table as Markdown, numbers to the right, wide enough to read as is.

    Args:
        table: rows of cells, the first with the headings. Cells are text,
            or numbers that are text already.
    """
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    numeric = [
        all(re.match(r"\d|-$", cell) for cell in column)
        for column in zip(*table[1:], strict=True)
    ]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        )
        + " |"
        for row in table
    ]
    rule = " | ".join(
        "-" * (width - 1) + (":" if number else "-")
        for width, number in zip(widths, numeric, strict=True)
    )
    return "\n".join([lines[0], f"| {rule} |", *lines[1:]]) + "\n"


def run_on_tensorflow(benchmark, measure, show):
    """The main function of a benchmark that one process can measure.

    Args:
        benchmark: its name, that of the script.
        measure: function without arguments that returns rows.
        show: function from rows to text.

    Returns:
        The rows, and the path of the file they went to, None for a quick
        run; None in the process that measures.
    """
    if HERE_NOW.value:
        print(json.dumps(measure()))
        return None
    rows = in_process(
        f"{benchmark}.py",
        "--here",
        f"--quick={QUICK.value}",
        KERAS_BACKEND="tensorflow",
    )
    print(show(rows))
    return rows, save(benchmark, rows)


def in_process(script, *arguments, on_cpu=True, **environment):
    """Run a script of this folder in a process of its own, on the CPU alone.

    A backend is chosen when Keras is imported, and memory is counted by
    process. The script must print JSON as its last line.

    Returns:
        What that line holds.
    """
    process = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=_environment(environment, on_cpu),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


# Plain PyTorch is on the CPU by itself.
_CPU = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_TORCH_DEVICE": "cpu",
}


def _environment(additions, on_cpu=True):
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **(_CPU if on_cpu else {}),
        **additions,
    }


class Worker:
    """A process that works on the CPU when told to, so that several take turns.

    The other side calls `answer` once for each turn. Its first answer comes
    by itself, when it is ready.
    """

    def __init__(self, script, *arguments, **environment):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            env=_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._read()

    def turn(self):
        """Let it work; returns its answer when it is done."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self):
        """End it; returns its last answer."""
        self._process.stdin.close()
        last = self._read()
        self._process.wait()
        return last

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise RuntimeError(f"{self._process.args[1:]} ended too early.")


_ANSWER = "answer: "


def answer(value):
    """In a worker: answer, then wait; whether there is another turn."""
    print(_ANSWER + json.dumps(value), flush=True)
    return bool(sys.stdin.readline())


def peak_memory_mb():
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
