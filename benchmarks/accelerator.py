"""Measure how close Wide ResNet training comes to an accelerator's limit.

Trains with JAX in bfloat16, on batches of 128 images that are kept and
augmented on the device, with 50 steps per call. In turn with that, a large
matrix product is timed as the limit. It is not part of `make bench`, since it
needs an accelerator.
"""

import json

from absl import app

import measurement
import networks
import processes
import records
import shared_flags
from markdown_table import markdown

BATCH, STEPS, EPOCHS = 128, 50, 200
NETWORKS = ("WRN-28-10", "WRN-16-8")
IMAGES = 50_000  # of CIFAR-10's training set
SIDE = 8192  # rows and columns of the matrices


def training(name, steps):
    """A function that runs `steps` train steps, and its operations."""
    import numpy as np

    from keras_dropblock import data
    from keras_dropblock.analysis.complexity import multiply_adds

    rng = np.random.default_rng(0)
    count = BATCH * steps
    batches = data.batches.DeviceBatches(
        rng.integers(0, 256, (count, 32, 32, 3), "uint8"),
        rng.integers(0, 10, count),
        batch_size=BATCH,
        preprocessing=data.Preprocessing(
            (32, 32), *data.published_statistics("cifar10")
        ),
        targets=np.eye(10, dtype="float32").__getitem__,
        training=True,
        augmentation={"pad": 4, "flip": True},
    )
    model = networks.compiled(
        name, dtype="mixed_bfloat16", steps_per_execution=steps
    )
    # The backward pass costs twice the forward pass, and a multiply-add is two
    # operations.
    operations = 3 * 2 * multiply_adds(model) * count
    return lambda: model.fit(batches, shuffle=False, verbose=0), operations


def product(side, repeats):
    """A function that multiplies matrices, and its number of operations."""
    import jax
    import jax.numpy as jnp

    a, b = jnp.ones((2, side, side), "bfloat16")
    multiply = jax.jit(jnp.matmul)

    def run():
        for _ in range(repeats):
            last = multiply(a, b)
        last.block_until_ready()

    return run, 2 * side**3 * repeats


def measure(quick):
    import jax

    names = ("WRN-10-1",) if quick else NETWORKS
    steps = 2 if quick else STEPS
    made = {name: training(name, steps) for name in names}
    made["matrix product"] = product(512 if quick else SIDE, 1 if quick else 50)
    times = measurement.interleave(
        {name: run for name, (run, _) in made.items()},
        seconds=2 if quick else 60,
    )
    ms = measurement.medians(times)
    limit = made["matrix product"][1] / ms["matrix product"]
    return [
        {
            "device": jax.devices()[0].device_kind,
            "network": name,
            "rounds": len(times[name]),
            "ms": ms[name],
            "teraflops": operations / ms[name] / 1e9,
            "utilization": operations / ms[name] / limit,
            "images_per_second": None
            if name == "matrix product"
            else BATCH * steps / ms[name] * 1e3,
        }
        for name, (_, operations) in made.items()
    ]


def show(rows):
    table = [
        [
            "network",
            "images/s",
            "TFLOP/s",
            "relative to product",
            "200 epochs, min",
        ]
    ]
    for row in rows:
        rate = row["images_per_second"]
        minutes = f"{IMAGES * EPOCHS / rate / 60:.1f}" if rate else "-"
        table.append(
            [
                row["network"],
                f"{rate:.0f}" if rate else "-",
                f"{row['teraflops']:.3g}",
                f"{row['utilization']:.2f}",
                minutes,
            ]
        )
    return f"On one {rows[0]['device']}:\n\n{markdown(table)}"


def main(_):
    if shared_flags.HERE_NOW.value:
        print(json.dumps(measure(shared_flags.QUICK.value)))
        return
    records.commit()
    rows = processes.in_process(
        "accelerator.py",
        "--here",
        f"--quick={shared_flags.QUICK.value}",
        on_cpu=False,
        KERAS_BACKEND="jax",
    )
    print(show(rows))
    records.save("accelerator", rows, rows[0]["device"])


if __name__ == "__main__":
    app.run(main)
