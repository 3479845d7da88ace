"""The flags that the benchmarks share, and what a default depends on."""

import pathlib

from absl import flags

BACKENDS = ("tensorflow", "jax", "torch")

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
