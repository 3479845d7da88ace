"""Graphs and answers of SavedModels, for the tests of exports."""

import subprocess
import sys

import numpy as np


def random_operations(signature):
    """Kinds of random operations in the graph of a signature, a set."""
    graph = signature.graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    for function in graph.library.function:
        kinds |= {node.op for node in function.node_def}
    return {kind for kind in kinds if "Random" in kind or "Rng" in kind}


_PROGRAM = """
import sys

sys.modules["keras_dropblock"] = None  # importing it is an error
sys.modules["keras"] = None
import numpy as np
import tensorflow as tf

folder = sys.argv[2]
model = tf.saved_model.load(sys.argv[1])
out = model.serve_uint8(np.load(folder + "/images.npy"))
out = out if isinstance(out, dict) else {"out": out}
np.savez(folder + "/out.npz", **{k: v.numpy() for k, v in out.items()})
"""


def answers_without_this_package(path, images, folder):
    """What a SavedModel answers in a process without this package and Keras.

    Args:
        path: of the SavedModel.
        images: uint8 images.
        folder: an empty folder.

    Returns:
        A dict of arrays; `out` if the model gives one tensor.
    """
    np.save(folder / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), str(folder)],
        check=True,
        cwd=folder,
    )
    with np.load(folder / "out.npz") as out:
        return dict(out)
