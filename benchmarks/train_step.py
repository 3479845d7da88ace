"""Time a train step with and without DropBlock, and against plain PyTorch.

Trains WRN-16-4 and WRN-16-1, in float32 and in bfloat16 (Keras:
mixed_bfloat16, PyTorch: autocast). Each network has its own process, and the
processes run one step each in turn. Processors that have no instructions for
bfloat16 emulate it, so they are measured in float32 only, unless --dtypes asks
for more.
"""

import statistics

from absl import app, flags

import measurement
import processes
import records
import shared_flags
from markdown_table import markdown
from stepwise_training import BATCH, DEPTH, train_keras, train_torch

WIDTHS = ["4", "1"]
# (mode, backend, further environment variables)
MODES = (
    ("TF graph", "tensorflow", {}),
    ("TF graph, ops in turn", "tensorflow", {"TF_NUM_INTEROP_THREADS": "1"}),
    ("JAX jit", "jax", {}),
    ("torch eager", "torch", {}),
)
PLAIN = {
    "plain PyTorch": "torch",
    "plain PyTorch, channels_last": "torch_channels_last",
}
KERAS = {"keras": "", "keras_dropblock": ", DropBlock"}

_WORKER = flags.DEFINE_enum(
    "worker",
    None,
    [*KERAS, *PLAIN.values()],
    "Internal: what this process trains.",
)
_WIDTHS = flags.DEFINE_list("widths", WIDTHS, "Widths of the Wide ResNets.")


def measure(width, dtype, seconds):
    """The rows of results of one width and dtype, one for each network."""
    workers = {}
    for name, worker in PLAIN.items():
        workers[name] = start(worker, width, dtype)
    for mode, backend, environment in MODES:
        if backend in shared_flags.ONLY.value:
            for worker, name in KERAS.items():
                workers[f"{mode}{name}"] = start(
                    worker, width, dtype, KERAS_BACKEND=backend, **environment
                )
    turns = {name: worker.turn for name, worker in workers.items()}
    times = measurement.interleave(
        turns,
        seconds,
        before={name: measurement.calls_before(name) for name in turns},
    )
    rows = []
    for name, worker in workers.items():
        last = worker.close()
        scheduler_ms = last.pop("scheduler_ms")
        rows.append(
            {
                "width": int(width),
                "dtype": dtype,
                "network": name,
                "rounds": len(times[name]),
                "ms": measurement.medians(times)[name],
                "scheduler_ms": statistics.median(scheduler_ms or [0]),
                **worker.ready,
                **last,
            }
        )
    return rows


def start(worker, width, dtype, **environment):
    return processes.Worker(
        "train_step.py",
        f"--worker={worker}",
        f"--widths={width}",
        f"--dtypes={dtype}",
        **environment,
    )


def show(rows):
    networks = [
        [
            "network",
            "dtype",
            "trained by",
            "ms per step",
            "images/s",
            "relative to plain PyTorch",
            "first step, s",
            "peak memory, MB",
        ]
    ]
    dropblock = [
        [
            "with / without DropBlock",
            "dtype",
            "trained by",
            "time",
            "peak memory",
            "memory without libraries",
            "scheduler",
        ]
    ]
    kinds = dict.fromkeys((row["width"], row["dtype"]) for row in rows)
    for kind in kinds:
        alike = [row for row in rows if (row["width"], row["dtype"]) == kind]
        kind_cells = [f"WRN-{DEPTH}-{kind[0]}", kind[1]]
        by_name = {row["network"]: row for row in alike}
        networks += [[*kind_cells, *cells] for cells in _networks(by_name)]
        dropblock += [[*kind_cells, *cells] for cells in _dropblock(by_name)]
    return "\n".join(map(markdown, (networks, dropblock)))


def _networks(by_name):
    best = min(row["ms"] for name, row in by_name.items() if name in PLAIN)
    return [
        [
            name,
            f"{row['ms']:.0f}",
            f"{BATCH / row['ms'] * 1e3:.1f}",
            f"{best / row['ms']:.2f}",
            f"{row['first_step_s']:.1f}",
            f"{row['peak_mb']}",
        ]
        for name, row in by_name.items()
    ]


def _dropblock(by_name):
    cells = []
    for mode, *_ in MODES:
        if mode in by_name:
            plain, ours = by_name[mode], by_name[f"{mode}, DropBlock"]
            cells.append(
                [
                    mode,
                    f"{ours['ms'] / plain['ms']:.3f}",
                    f"{ours['peak_mb'] / plain['peak_mb']:.3f}",
                    f"{_above(ours) / _above(plain):.3f}",
                    f"{ours['scheduler_ms'] / plain['ms']:.2%}",
                ]
            )
    return cells


def _above(row):
    """Peak memory above that before the network was built, in MiB."""
    return row["peak_mb"] - row["before_mb"]


def main(_):
    widths, dtypes = _WIDTHS.value, shared_flags.DTYPES.value
    if _WORKER.value in PLAIN.values():
        channels_last = _WORKER.value == "torch_channels_last"
        train_torch(int(widths[0]), dtypes[0], channels_last)
    elif _WORKER.value:
        dropblock = _WORKER.value == "keras_dropblock"
        train_keras(int(widths[0]), dtypes[0], dropblock)
    else:
        records.commit()
        if dtypes is None:
            dtypes = ["float32"]
            dtypes += ["bfloat16"] if shared_flags.has_bfloat16() else []
        seconds = 10 if shared_flags.QUICK.value else 200
        rows = []
        for width in widths:
            for dtype in dtypes:
                rows += measure(width, dtype, seconds)
        print(show(rows))
        records.save("train_step", rows)


if __name__ == "__main__":
    app.run(main)
