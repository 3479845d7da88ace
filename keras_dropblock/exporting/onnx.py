"""ONNX files."""

import pathlib

from keras_dropblock import files
from keras_dropblock.exporting import endpoints
from keras_dropblock.exporting.comparing import (
    check_same,
    probabilities,
    random_images,
)
from keras_dropblock.exporting.errors import ExportError
from keras_dropblock.exporting.saved_model import write_assets

OPSET = 18  # read by ONNX Runtime 1.14 (2023) and later


def export_onnx(model, out, normalise, *, labels=None, recipe=None):
    """Write a model as `out/model.onnx`, and labels and recipe beside it.

    Its input `images` is uint8 (batch, height, width, channels), its output
    `probabilities`: normalisation and softmax are inside. The file is run by
    ONNX Runtime and compared with the model before it takes its place: what
    differs by more than 1e-5 is not kept.

    Args:
        model, normalise, labels, recipe: see `export`.
        out: folder of the model, such as `saved_models/NAME`.

    Returns:
        Path of the file.

    Raises:
        ExportError, DifferenceError: as `export`, and the former without the
            extra `onnx`.
    """
    endpoints.check_exportable(model, labels)
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ExportError(
            "Export to ONNX needs the extra `onnx`. Run: pip install "
            f"'keras-dropblock[onnx]'. ({error})"
        ) from error
    import tensorflow as tf

    serve = endpoints.serve_uint8(model, normalise)
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, "images")
    graph, _ = tf2onnx.convert.from_function(
        tf.function(lambda images: {"probabilities": serve(images)}),
        [spec],
        opset=OPSET,
    )
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    images = random_images(model)
    with files.replacing(path) as temporary:
        onnx.save(graph, temporary)
        session = onnxruntime.InferenceSession(
            temporary, providers=["CPUExecutionProvider"]
        )
        (given,) = session.run(["probabilities"], {"images": images})
        check_same("ONNX file", given, probabilities(model, normalise, images))
    write_assets(out, labels, recipe)
    return path
