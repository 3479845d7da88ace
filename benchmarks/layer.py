"""Time DropBlock against Dropout and a textbook implementation.

Measures the forward and backward pass of one layer, in several modes of
compilation.
"""

import json
import os

from absl import app, flags

import measurement
import processes
import records
import shared_flags
from markdown_table import markdown

SHAPES = (
    (32, 32, 32, 64),
    (128, 16, 16, 128),
    (64, 8, 8, 256),
    (48, 24, 24, 96),
    (16, 56, 56, 64),
)
MODES = {
    "tensorflow": ("TF graph", "TF jit"),
    "jax": ("JAX jit",),
    "torch": ("torch eager",),
}
KEEP_PROB, BLOCK_SIZE = 0.9, 7

_ACCELERATOR = flags.DEFINE_bool(
    "accelerator", False, "Measure only JAX, on its accelerator."
)
_BACKEND = flags.DEFINE_enum(
    "backend",
    None,
    shared_flags.BACKENDS,
    "Internal: backend of the process that measures.",
)


def layers():
    """The layers to compare, and the reasons for skipped ones, by name."""
    import keras

    import keras_dropblock
    import textbook

    result = {
        # Dropout with a rate of 0 returns its input.
        "identity": keras.layers.Dropout(0.0),
        "Dropout": keras.layers.Dropout(1 - KEEP_PROB, seed=1),
        "SpatialDropout2D": keras.layers.SpatialDropout2D(
            1 - KEEP_PROB, seed=1
        ),
        "textbook": textbook.DropBlock2D(KEEP_PROB, BLOCK_SIZE),
        "ours": keras_dropblock.DropBlock2D(
            keep_prob=KEEP_PROB, block_size=BLOCK_SIZE, seed=1
        ),
    }
    try:
        import keras_cv

        result["KerasCV"] = keras_cv.layers.DropBlock2D(
            rate=1 - KEEP_PROB, block_size=BLOCK_SIZE, seed=1
        )
    except ImportError as error:
        return result, {"KerasCV": f"not installed: {error}"}
    return result, {}


def tensorflow_step(layer, x, upstream, jit_compile):
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile)
    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, x, upstream)

    return lambda: step(x, upstream)


def jax_step(layer, x, upstream):
    import jax

    layer.build(x.shape)

    @jax.jit
    def step(state, x, upstream):
        def forward(x):
            return layer.stateless_call([], state, x, training=True)

        y, backward, state = jax.vjp(forward, x, has_aux=True)
        return y, backward(upstream)[0], state

    state = [variable.value for variable in layer.non_trainable_variables]

    def run():
        nonlocal state
        *results, state = step(state, x, upstream)
        jax.block_until_ready(results)

    return run


def torch_step(layer, x, upstream):
    import torch

    x.requires_grad_()

    def run():
        y = layer(x, training=True)
        return y, torch.autograd.grad(y, x, upstream)

    return run


def step(mode, layer, x, upstream):
    if mode == "JAX jit":
        return jax_step(layer, x, upstream)
    if mode == "torch eager":
        return torch_step(layer, x, upstream)
    return tensorflow_step(layer, x, upstream, mode == "TF jit")


def measure(mode, dtype, shape, seconds):
    """One row of results: the median time of each layer, in milliseconds."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    x, upstream = (
        keras.ops.convert_to_tensor(rng.normal(size=shape), dtype)
        for _ in range(2)
    )
    keras.config.set_dtype_policy(dtype)
    candidates, skipped = layers()
    steps = {
        name: step(mode, layer, x, upstream)
        for name, layer in candidates.items()
    }
    functions, failed = measurement.runnable(steps, "KerasCV")
    times = measurement.interleave(
        functions,
        seconds,
        most_rounds=200,
        before=dict.fromkeys(functions, measurement.calls_before(mode)),
    )
    return {
        "mode": mode,
        "dtype": dtype,
        "device": device(),
        "shape": shape,
        "rounds": len(times["ours"]),
        "ms": measurement.medians(times),
        "skipped": skipped | failed,
    }


def device():
    """The type of device that runs the benchmark."""
    if os.environ["KERAS_BACKEND"] != "jax":
        return "cpu"
    import jax

    return jax.devices()[0].device_kind


def show(rows):
    """The table, and the reasons for empty cells."""
    others = ("identity", "SpatialDropout2D", "KerasCV", "textbook", "ours")
    table = [
        [
            "mode",
            "dtype",
            "feature map",
            "Dropout, ms",
            *others,
            "textbook / ours",
        ]
    ]
    for row in rows:
        ms = row["ms"]
        cells = [
            f"{ms[name] / ms['Dropout']:.3f}" if name in ms else "-"
            for name in others
        ]
        shape = " x ".join(map(str, row["shape"]))
        dropout = f"{ms['Dropout']:.1f}"
        gain = f"{ms['textbook'] / ms['ours']:.1f}"
        start = [row["mode"], row["dtype"], shape, dropout]
        table.append([*start, *cells, gain])
    left_out = {
        f"- {row['mode']}, no {name}: `{why}`\n"
        for row in rows
        for name, why in row["skipped"].items()
    }
    return "\n".join([markdown(table), "".join(sorted(left_out))])


def main(_):
    shapes = SHAPES[2:3] if shared_flags.QUICK.value else SHAPES
    seconds = 1 if shared_flags.QUICK.value else 6
    dtypes = shared_flags.DTYPES.value or ["float32", "bfloat16"]
    if _BACKEND.value:
        rows = [
            measure(mode, dtype, shape, seconds)
            for mode in MODES[os.environ["KERAS_BACKEND"]]
            for dtype in dtypes
            for shape in shapes
        ]
        print(json.dumps(rows))
        return
    records.commit()
    rows = []
    accelerator = _ACCELERATOR.value
    for backend in ["jax"] if accelerator else shared_flags.ONLY.value:
        rows += processes.in_process(
            "layer.py",
            f"--backend={backend}",
            f"--quick={shared_flags.QUICK.value}",
            f"--dtypes={','.join(dtypes)}",
            on_cpu=not accelerator,
            KERAS_BACKEND=backend,
        )
    print(show(rows))
    records.save("layer", rows, rows[0]["device"])


if __name__ == "__main__":
    app.run(main)
