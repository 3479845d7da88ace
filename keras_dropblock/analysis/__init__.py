"""Analysis of networks: maps, measures and scores. See docs/analysis.md."""

from keras_dropblock.analysis.blocks import score_without_blocks
from keras_dropblock.analysis.calibration import fit_temperature, reliability
from keras_dropblock.analysis.cam import class_activation_maps
from keras_dropblock.analysis.corruptions import corrupt
from keras_dropblock.analysis.gates import measure_gates
from keras_dropblock.analysis.gradcam import grad_cam
from keras_dropblock.analysis.interception import read_feature_maps
from keras_dropblock.analysis.occlusion import (
    occlusion_maps,
    score_under_occlusion,
)
from keras_dropblock.analysis.redundancy import measure_redundancy
from keras_dropblock.analysis.robustness import (
    score_under_corruption,
    score_under_dropblock,
    with_dropblock,
)
from keras_dropblock.analysis.spread import measure_spread, summarize
from keras_dropblock.analysis.uncertainty import (
    auroc,
    monte_carlo,
    rejection_curve,
    score_uncertainty,
    score_unknown,
)

__all__ = [
    "auroc",
    "class_activation_maps",
    "corrupt",
    "fit_temperature",
    "grad_cam",
    "measure_gates",
    "measure_redundancy",
    "measure_spread",
    "monte_carlo",
    "occlusion_maps",
    "read_feature_maps",
    "rejection_curve",
    "reliability",
    "score_uncertainty",
    "score_under_corruption",
    "score_under_dropblock",
    "score_under_occlusion",
    "score_unknown",
    "score_without_blocks",
    "summarize",
    "with_dropblock",
]
