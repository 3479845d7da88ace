"""Build the demo for the browser: python tools/demo.py OUT

    make demo                                           # into build/demo
    python -m http.server --directory build/demo        # then open the URL

OUT gets the page in docs/demo/, ONNX Runtime Web, and the published network as
model.onnx and model.json. The folder works offline. ONNX Runtime Web is
downloaded once with npm, into the folder `npm` beside OUT.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import keras
import numpy as np

from keras_dropblock import files, hub
from keras_dropblock.exports.served import check_same

MODEL = "wrn_16_1_cifar10_dropblock"
# Outputs for the page. The last one is averaged and gives the logits.
MAPS = ("group1", "group2", "group3", "last")
OPSET = 18
RUNTIME = "onnxruntime-web-1.30.0.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_FILES = (
    "dist/ort.wasm.bundle.min.mjs",
    "dist/ort-wasm-simd-threaded.wasm",
    "package.json",  # names the version and the license
)
SOURCE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "demo"


def build(out):
    """Write the demo into a folder, and replace what is in it.

    Args:
        out: `pathlib.Path` of the folder.
    """
    package = fetch_runtime(out.parent / "npm")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(SOURCE, out)
    (out / "runtime").mkdir()
    with tarfile.open(package) as archive:
        for name in RUNTIME_FILES:
            content = archive.extractfile(f"package/{name}").read()
            (out / "runtime" / pathlib.Path(name).name).write_bytes(content)
    write_network(out)


def fetch_runtime(folder):
    """Download ONNX Runtime Web with npm, unless it is there.

    Returns:
        Path of the package. Its SHA-256 is checked.
    """
    path = folder / RUNTIME
    if not path.exists():
        if shutil.which("npm") is None:
            sys.exit("error: The demo needs npm. Install Node.js, then retry.")
        folder.mkdir(parents=True, exist_ok=True)
        name, version = RUNTIME.removesuffix(".tgz").rsplit("-", 1)
        subprocess.run(
            ["npm", "pack", "--silent", f"{name}@{version}"],
            cwd=folder,
            check=True,
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        path.unlink()
        sys.exit(f"error: {path} has the SHA-256 {digest}, not {SHA256}.")
    return path


def write_network(out):
    """Write `model.onnx` and `model.json`."""
    import onnx
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    model = hub.load(MODEL)
    card = model.card
    answering = serving(model)

    def serve(images):
        return answering(tf.cast(images, tf.float32), training=False)

    spec = tf.TensorSpec((None, *card.image_shape), tf.uint8, "images")
    graph, _ = tf2onnx.convert.from_function(
        tf.function(serve), [spec], opset=OPSET
    )
    images = np.random.default_rng(0).integers(
        0, 256, (2, *card.image_shape), "uint8"
    )
    with files.replacing(out / "model.onnx") as temporary:
        onnx.save(graph, temporary)
        session = onnxruntime.InferenceSession(
            temporary, providers=["CPUExecutionProvider"]
        )
        names = ["probabilities", *MAPS]
        given = session.run(names, {"images": images})
        wanted = serve(images)
        for name, array in zip(names, given, strict=True):
            check_same(f"demo's {name}", array, wanted[name].numpy())
    head = model.get_layer("logits")
    description = {
        "name": card.name,
        "class_names": list(card.class_names),
        "image_size": card.image_shape[0],
        "maps": list(MAPS),
        "last": MAPS[-1],
        "kernel": np.asarray(head.kernel).tolist(),
        "samples": sorted(path.stem for path in SOURCE.glob("samples/*.png")),
    }
    (out / "model.json").write_text(json.dumps(description), "utf-8")


def serving(model):
    """A Keras model from raw pixels to probabilities and feature maps."""
    card = model.card
    tensors = [model.get_layer(name).output for name in MAPS[:-1]]
    tensors += [model.get_layer("pool").input, model.output]
    network = keras.Model(model.input, tensors)
    images = keras.Input(card.image_shape, name="images")
    *maps, logits = network(card.preprocessing.layer()(images), training=False)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    outputs = dict(zip(MAPS, maps, strict=True))
    return keras.Model(images, {"probabilities": probabilities, **outputs})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(pathlib.Path(sys.argv[1]))
    print(f"The demo is in {sys.argv[1]}.")
