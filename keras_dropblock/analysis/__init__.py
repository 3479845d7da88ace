"""Look into networks: maps, measures and scores. See docs/analysis.md."""

from keras_dropblock.analysis.cam import class_activation_maps
from keras_dropblock.analysis.gradcam import grad_cam
from keras_dropblock.analysis.interception import read_feature_maps
from keras_dropblock.analysis.spread import measure_spread, summarize

__all__ = [
    "class_activation_maps",
    "grad_cam",
    "measure_spread",
    "read_feature_maps",
    "summarize",
]
