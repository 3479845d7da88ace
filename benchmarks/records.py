"""Record hardware, versions and commit, and write the results files."""

import datetime
import functools
import json
import os
import pathlib
import platform
import re

import shared_flags

_HERE = pathlib.Path(__file__).parent
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


def machine(device):
    """A name for this type of machine, without its host name."""
    device = re.sub(r"\W+", "_", device).lower()
    return f"{os.cpu_count()}-core-{platform.machine()}-{device}"


@functools.cache
def commit():
    """The commit of the code. It is read once: call this before measuring."""
    from keras_dropblock.runs import versions

    # Without results/, which a previous benchmark may have changed.
    return versions.commit(*_HERE.glob("*.py"))


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
    default = _HERE / "results" / f"{machine_name}.json"
    return pathlib.Path(shared_flags.RESULTS.value or default)


def save(benchmark, rows, device="cpu"):
    """Write the rows of one benchmark into this machine's results file.

    Returns:
        Path of the file. None for a quick run, whose numbers are not saved.
    """
    from keras_dropblock import files

    if shared_flags.QUICK.value:
        return None
    path = results_path(machine(device))
    results = json.loads(path.read_text()) if path.exists() else {}
    results[benchmark] = {**record(), "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True)
    files.write_text(path, text + "\n")
    return path
