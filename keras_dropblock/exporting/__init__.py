"""Networks for other programs: SavedModel, ONNX, LiteRT."""

from keras_dropblock.exporting.errors import DifferenceError, ExportError
from keras_dropblock.exporting.litert import (
    Quantised,
    export_litert,
    export_litert_int8,
)
from keras_dropblock.exporting.onnx import export_onnx
from keras_dropblock.exporting.saved_model import export

__all__ = [
    "DifferenceError",
    "ExportError",
    "Quantised",
    "export",
    "export_litert",
    "export_litert_int8",
    "export_onnx",
]
