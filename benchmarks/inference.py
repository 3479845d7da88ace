"""Measure the speed and size of exported networks.

Runs WRN-16-4 on uint8 images of 32 x 32 pixels, in batches of 1 and of 64.
"""

import os
import pathlib
import tempfile

from absl import app

import measurement
import processes
import shared_flags
from markdown_table import markdown

DEPTH, WIDTH = 16, 4
BATCHES = (1, 64)


def keras(model):
    """A function from images to probabilities, and the size in bytes."""
    from keras import ops

    def predict(images):
        return ops.softmax(model.predict_on_batch(model.card.normalize(images)))

    return predict, model.count_params() * 4


def saved_model(model, folder):
    import tensorflow as tf

    from keras_dropblock import exports

    path = exports.export(model, folder / "saved_model")
    loaded = tf.saved_model.load(str(path))
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())

    def predict(images):
        return loaded.serve_uint8(tf.constant(images)).numpy()

    predict.loaded = loaded  # keeps the variables alive
    return predict, size


def onnx(model, folder):
    import onnxruntime

    from keras_dropblock import exports

    path = exports.export_onnx(model, folder)
    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    return (
        lambda images: session.run(["probabilities"], {"images": images}),
        path.stat().st_size,
    )


def litert(model, folder):
    from keras_dropblock import exports

    return _litert(exports.export_litert(model, folder))


def litert_int8(model, folder):
    import numpy as np

    from keras_dropblock import exports

    # Only time is measured, so random weights and constant labels suffice.
    images = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), "uint8")
    result = exports.export_litert_int8(
        model,
        folder,
        images,
        (images, np.zeros(len(images), int)),
        max_metric_drop=1.0,
    )
    return _litert(result.path)


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serve_uint8")
    return lambda images: runner(images=images), path.stat().st_size


EXPORTERS = {
    "SavedModel": saved_model,
    "ONNX Runtime": onnx,
    "LiteRT": litert,
    "LiteRT, int8": litert_int8,
}


def measure(seconds):
    import numpy as np

    from keras_dropblock import data, hub, models

    model = models.WRN(DEPTH, WIDTH)
    model.card = hub.Card(
        "inference",
        data.Preprocessing((32, 32), *data.published_statistics("cifar10")),
        (),
    )
    made = {"Keras": keras(model)}
    with tempfile.TemporaryDirectory() as folder:
        for name, exporter in EXPORTERS.items():
            made[name] = exporter(model, pathlib.Path(folder))
        rows = []
        for batch in BATCHES:
            rng = np.random.default_rng(0)
            images = rng.integers(0, 256, (batch, 32, 32, 3), "uint8")
            times = measurement.interleave(
                {
                    name: lambda predict=predict, x=images: predict(x)
                    for name, (predict, _) in made.items()
                },
                seconds,
                most_rounds=200,
            )
            rows.append(
                {
                    "batch": batch,
                    "rounds": len(times["Keras"]),
                    "ms": measurement.medians(times),
                    "bytes": {name: size for name, (_, size) in made.items()},
                }
            )
    return rows


def show(rows):
    table = [
        ["format", "batch", "ms", "images/s", "time relative to Keras", "MB"]
    ]
    for row in rows:
        for name, ms in row["ms"].items():
            table.append(
                [
                    name,
                    f"{row['batch']}",
                    f"{ms:.1f}",
                    f"{row['batch'] / ms * 1e3:.0f}",
                    f"{ms / row['ms']['Keras']:.2f}",
                    f"{row['bytes'][name] / 1e6:.1f}",
                ]
            )
    return markdown(table)


def main(_):
    seconds = 2 if shared_flags.QUICK.value else 15
    processes.run_on_tensorflow("inference", lambda: measure(seconds), show)


if __name__ == "__main__":
    app.run(main)
