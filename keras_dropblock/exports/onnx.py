"""Export to ONNX."""

import pathlib

from keras_dropblock import files
from keras_dropblock.errors import ExportError
from keras_dropblock.exports.served import Served, check_same

OPSET = 18  # read by ONNX Runtime 1.14 (2023) and later


def export_onnx(model, out, *, card=None, recipe=None):
    """Write a model as `out/model.onnx`, with its labels and card.

    The file maps uint8 `images` (batch, height, width, channels) to
    `probabilities`. Normalization and softmax are included. For detection and
    segmentation, it gives the raw outputs of the network: `logits` of pixels,
    or `bbox_regression` and `cls_logits` of anchors. The file is run
    with ONNX Runtime first; if its probabilities differ from the model's by
    more than 1e-5, or its raw outputs by more than 1e-5 times the largest
    absolute value or 1, it is not kept.

    Args:
        model, card, recipe: see `export_saved_model`.
        out: folder of the model, such as `saved_models/NAME`.

    Returns:
        Path of the file.

    Raises:
        ExportError: as `export_saved_model`, and if the extra `onnx` is not
            installed.
        DifferenceError: if the outputs of the file differ from the model's.
    """
    served = Served.of(model, card)
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

    def serve(images):
        pixels = tf.cast(images, tf.float32)
        return named(served.answering(pixels, training=False))

    def named(answer):
        name = "logits" if served.task.any_size else "probabilities"
        return answer if isinstance(answer, dict) else {name: answer}

    spec = tf.TensorSpec((None, *served.image_shape), tf.uint8, "images")
    graph, _ = tf2onnx.convert.from_function(
        tf.function(serve),
        [spec],
        opset=OPSET,
    )
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    images = served.random_images()
    with files.replacing(path) as temporary:
        onnx.save(graph, temporary)
        session = onnxruntime.InferenceSession(
            temporary, providers=["CPUExecutionProvider"]
        )
        expected = named(served.answers(images))
        given = session.run([*expected], {"images": images})
        given = dict(zip(expected, given, strict=True))
        check_same("ONNX file", given, expected)
    served.write_assets(out, recipe)
    return path
