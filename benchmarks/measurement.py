"""Time functions side by side, and record machine and results."""

import datetime
import functools
import json
import os
import pathlib
import platform
import random
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
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "numpy",
    "onnxruntime",
    "ai-edge-litert",
    "keras-cv",
    "keras-hub",
    "kserve",
    "tritonclient",
)

HERE_NOW = flags.DEFINE_bool(
    "here", False, "Measure in this process and print JSON."
)
ONLY = flags.DEFINE_list("only", list(BACKENDS), "Backends to measure.")
QUICK = flags.DEFINE_bool(
    "quick", False, "Measure a small part, to check that the benchmark runs."
)
DTYPES = flags.DEFINE_list(
    "dtypes",
    None,
    "float32, bfloat16 or both. Default: both, but for whole networks on a "
    "processor without instructions for bfloat16 only float32.",
)
RESULTS = flags.DEFINE_string(
    "results", None, "File to write. Default: results/<machine>.json."
)


def has_bfloat16():
    """Whether the processor multiplies in bfloat16, according to Linux."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(
        "bf16" in line
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
    )


def calls_before(mode):
    """Number of calls of a function in `mode` before its time is measured.

    One call compiles. A graph of TensorFlow needs a hundred: its executor
    hands an op to another thread if it expects more than 8,000 cycles. It
    expects 10^8 at first, and keeps nine tenths of that in each call, so that
    even an op without any cost is run in place only after ninety calls
    (`ExecutorImpl::KernelStats` in TensorFlow's executor.cc).
    """
    return 100 if mode.startswith("TF graph") and not QUICK.value else 1


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


def machine(device):
    """A name for this type of machine, without its host name."""
    device = re.sub(r"\W+", "_", device).lower()
    return f"{os.cpu_count()}-core-{platform.machine()}-{device}"


@functools.cache
def commit():
    """The commit of the code. It is read once: call this before measuring."""
    from keras_dropblock.runs import versions

    # Without results/, which a previous benchmark may have changed.
    return versions.commit(*HERE.glob("*.py"))


def record():
    """The record of a measurement: hardware, versions, commit and date."""
    from keras_dropblock.runs import versions

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory_gb": round(pages / 2**30),
        "versions": versions.of(PACKAGES),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def _processor():
    """Name of the processor, or of its architecture if that is unknown."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def results_path(machine_name):
    """The results file of a machine, or the file given by the flag."""
    default = HERE / "results" / f"{machine_name}.json"
    return pathlib.Path(RESULTS.value or default)


def save(benchmark, rows, device="cpu"):
    """Write the rows of one benchmark into this machine's results file.

    Returns:
        Path of the file. None for a quick run, whose numbers are not saved.
    """
    from keras_dropblock import files

    if QUICK.value:
        return None
    path = results_path(machine(device))
    results = json.loads(path.read_text()) if path.exists() else {}
    results[benchmark] = {**record(), "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True)
    files.write_text(path, text + "\n")
    return path


def markdown(table):
    """A Markdown table with aligned columns, numbers to the right.

    Args:
        table: list of rows. Each is a list of strings; the first has the
            headings.
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
    """The main function of a benchmark that needs only one process.

    Args:
        benchmark: name of the benchmark and of its script.
        measure: function without arguments that returns rows.
        show: function from rows to text.

    Returns:
        A tuple of the rows and the path of the results file, which is None
        for a quick run. Only None in the process that measures.
    """
    if HERE_NOW.value:
        print(json.dumps(measure()))
        return None
    commit()
    rows = in_process(
        f"{benchmark}.py",
        "--here",
        f"--quick={QUICK.value}",
        f"--dtypes={','.join(DTYPES.value or [])}",
        KERAS_BACKEND="tensorflow",
    )
    print(show(rows))
    return rows, save(benchmark, rows)


def in_process(script, *arguments, on_cpu=True, **environment):
    """Run a script of this folder in a new process.

    A new process is needed because the backend is chosen when Keras is
    imported, and because memory is measured per process. The script must
    print JSON as its last line.

    Args:
        script: name of the script.
        *arguments: its command-line arguments.
        on_cpu: whether to hide all accelerators.
        **environment: further environment variables.

    Returns:
        The parsed JSON.
    """
    process = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=_environment(environment, on_cpu),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


# Plain PyTorch uses the CPU by default.
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
    """A CPU process that works only during its turn.

    The script calls `answer` once when it is ready, and then after each turn.
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
        """Run one turn and return the answer of the process."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self):
        """End the process and return its last answer."""
        self._process.stdin.close()
        last = self._read()
        self._process.wait()
        return last

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise RuntimeError(
            f"{self._process.args[1:]} ended before it answered."
        )


_ANSWER = "answer: "


def answer(value):
    """Called by a worker: answer, then wait for the next turn.

    Returns:
        Whether there is another turn.
    """
    print(_ANSWER + json.dumps(value), flush=True)
    return bool(sys.stdin.readline())


def peak_memory_mb():
    """Peak memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
