"""Export models to SavedModel, ONNX and LiteRT.

Every export includes preprocessing: it maps raw pixels to the task's answer.
It is compared with the model, and deleted if the outputs differ.
"""

from keras_dropblock.errors import DifferenceError, ExportError
from keras_dropblock.exports.litert import (
    Quantized,
    export_litert,
    export_litert_int8,
)
from keras_dropblock.exports.onnx import export_onnx
from keras_dropblock.exports.saved_model import export_saved_model

FORMATS = {
    "saved_model": export_saved_model,
    "onnx": export_onnx,
    "litert": export_litert,
    "litert_int8": export_litert_int8,
}


def export(model, path, *arguments, format="saved_model", **options):
    """Export a model together with its preprocessing and labels.

    Preprocessing and labels come from the model's card.

    Args:
        model: a model from `keras_dropblock.load`, or another model and
            `card=`.
        path: folder of the model, such as `saved_models/NAME`.
        *arguments: further arguments of the format's function.
        format: `"saved_model"`, `"onnx"`, `"litert"` or `"litert_int8"`.
        **options: options of the format's function: `export_saved_model`,
            `export_onnx`, `export_litert` or `export_litert_int8`.

    Returns:
        Path of the export. For `"litert_int8"`, a `Quantized`.

    Raises:
        ExportError: if the format is unknown, or the model cannot be
            exported.
        DifferenceError: if the outputs of the export differ from the model's.

    Example:
        >>> model = keras_dropblock.load("wrn_16_1_cifar10_dropblock")
        >>> path = keras_dropblock.export(model, "saved_models/cat")
    """
    if format not in FORMATS:
        raise ExportError(
            f"`format` must be one of {', '.join(FORMATS)}. Received: "
            f"format={format!r}."
        )
    return FORMATS[format](model, path, *arguments, **options)


__all__ = [
    "FORMATS",
    "DifferenceError",
    "ExportError",
    "Quantized",
    "export",
    "export_litert",
    "export_litert_int8",
    "export_onnx",
    "export_saved_model",
]
