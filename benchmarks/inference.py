"""How fast is an exported network, and how large?

WRN-16-4 on uint8 images of 32 x 32, one at a time and 64 at once.
"""

import os
import pathlib
import tempfile

from absl import app

import measuring

DEPTH, WIDTH = 16, 4
BATCHES = (1, 64)


def keras(model, normalise):
    """A function from images to probabilities, and its size in bytes."""
    from keras import ops

    def predict(images):
        return ops.softmax(model.predict_on_batch(normalise(images)))

    return predict, model.count_params() * 4


def saved_model(model, normalise, folder):
    import tensorflow as tf

    from keras_dropblock import exporting

    path = exporting.export(model, folder / "saved_model", normalise)
    loaded = tf.saved_model.load(str(path))
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())

    def predict(images):
        return loaded.serve_uint8(tf.constant(images)).numpy()

    predict.loaded = loaded  # else its variables are gone
    return predict, size


def onnx(model, normalise, folder):
    import onnxruntime

    from keras_dropblock import exporting

    path = exporting.export_onnx(model, folder, normalise)
    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    return (
        lambda images: session.run(["probabilities"], {"images": images}),
        path.stat().st_size,
    )


def litert(model, normalise, folder):
    from keras_dropblock import exporting

    return _litert(exporting.export_litert(model, folder, normalise))


def litert_int8(model, normalise, folder):
    import numpy as np

    from keras_dropblock import exporting

    # Weights are random, and so are labels: only time is measured here.
    images = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), "uint8")
    result = exporting.export_litert_int8(
        *(model, folder, normalise, images),
        (images, np.zeros(len(images), int)),
        most_lost=1.0,
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
    "LiteRT, 8 bits": litert_int8,
}


def measure(seconds):
    import numpy as np

    import keras_dropblock
    from keras_dropblock import data

    model = keras_dropblock.models.WRN(DEPTH, WIDTH)
    normalise = data.Normalise(*data.normalise.published("cifar10"))
    made = {"Keras": keras(model, normalise)}
    with tempfile.TemporaryDirectory() as folder:
        for name, exporter in EXPORTERS.items():
            made[name] = exporter(model, normalise, pathlib.Path(folder))
        rows = []
        for batch in BATCHES:
            rng = np.random.default_rng(0)
            images = rng.integers(0, 256, (batch, 32, 32, 3), "uint8")
            times = measuring.interleave(
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
                    "ms": measuring.medians(times),
                    "bytes": {name: size for name, (_, size) in made.items()},
                }
            )
    return rows


def show(rows):
    table = [["format", "batch", "ms", "images/s", "of Keras's time", "MB"]]
    for row in rows:
        for name, ms in row["ms"].items():
            table.append(
                [
                    *(name, f"{row['batch']}", f"{ms:.1f}"),
                    f"{row['batch'] / ms * 1e3:.0f}",
                    f"{ms / row['ms']['Keras']:.2f}",
                    f"{row['bytes'][name] / 1e6:.1f}",
                ]
            )
    return measuring.markdown(table)


def main(_):
    seconds = 2 if measuring.QUICK.value else 15
    measuring.run_on_tensorflow("inference", lambda: measure(seconds), show)


if __name__ == "__main__":
    app.run(main)
