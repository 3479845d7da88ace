"""Time a train step of thin, deep networks against wide ones.

Repeats figure 4 of the Wide ResNet paper on this machine: forward pass,
backward pass and update, on batches of 32 images.
"""

import time

from absl import app

import measurement
import networks
import processes
import shared_flags
from markdown_table import markdown

BATCH = 32
# Milliseconds in the paper: forward and backward pass, Titan X, cuDNN 5. The
# paper's ResNet-1004 is PreActResNet-1001.
PAPER_MS = {
    "PreActResNet-164": 85,
    "PreActResNet-1001": 512,
    "WRN-40-4": 68,
    "WRN-16-10": 164,
    "WRN-28-10": 312,
}
QUICK = ("PreActResNet-164", "WRN-40-4")


def training_step(name, images, labels):
    """A compiled train step of a network, and the seconds to prepare it."""
    start = time.perf_counter()
    model = networks.compiled(name)
    model.train_on_batch(images, labels)
    ready = time.perf_counter() - start
    return lambda: model.train_on_batch(images, labels), ready


def measure(seconds):
    # Import it before the clock starts.
    import keras_dropblock  # noqa: F401

    images, labels = networks.batch(BATCH)
    names = QUICK if shared_flags.QUICK.value else PAPER_MS
    # One process is enough: only one network has activations at a time.
    steps = {name: training_step(name, images, labels) for name in names}
    times = measurement.interleave(
        {name: step for name, (step, _) in steps.items()}, seconds
    )
    ms = measurement.medians(times)
    return [
        {
            "network": name,
            "rounds": len(times[name]),
            "ms": ms[name],
            "ready_s": round(steps[name][1], 1),
            "paper_ms": PAPER_MS[name],
        }
        for name in names
    ]


def show(rows):
    base = next(row for row in rows if row["network"] == "WRN-40-4")
    table = [
        [
            "network",
            "ms per step",
            "relative to WRN-40-4",
            "paper's ms",
            "relative to WRN-40-4",
            "n",
            "first step, s",
        ]
    ]
    for row in rows:
        table.append(
            [
                row["network"],
                f"{row['ms']:.0f}",
                f"{row['ms'] / base['ms']:.2f}",
                f"{row['paper_ms']}",
                f"{row['paper_ms'] / base['paper_ms']:.2f}",
                f"{row['rounds']}",
                f"{row['ready_s']:.0f}",
            ]
        )
    return markdown(table)


def chart(results):
    """Path of the chart of a results file."""
    return results.with_name(f"{results.stem}-efficiency.png")


def draw(rows, path):
    """Draw times of this machine and of the paper, relative to WRN-40-4."""
    from matplotlib.figure import Figure

    from keras_dropblock import files

    base = next(row for row in rows if row["network"] == "WRN-40-4")
    figure = Figure(figsize=(6.4, 3), layout="constrained")
    axes = figure.subplots()
    for key, label, shift in (
        ("ms", "this machine", -0.2),
        ("paper_ms", "the paper's Titan X", 0.2),
    ):
        bars = axes.barh(
            [i + shift for i in range(len(rows))],
            [row[key] / base[key] for row in rows],
            height=0.4,
            label=label,
        )
        axes.bar_label(bars, fmt=" %.1f")
    axes.set_yticks(range(len(rows)), [row["network"] for row in rows])
    axes.margins(x=0.1)  # room for the longest bar's label
    axes.invert_yaxis()
    axes.set_xlabel("time of a train step relative to WRN-40-4")
    axes.legend()
    files.write_figure(path, figure)


def main(_):
    seconds = 5 if shared_flags.QUICK.value else 60
    done = processes.run_on_tensorflow(
        "efficiency", lambda: measure(seconds), show
    )
    if done:
        rows, path = done
        if path:
            draw(rows, chart(path))


if __name__ == "__main__":
    app.run(main)
