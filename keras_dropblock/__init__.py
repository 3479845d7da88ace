"""DropBlock and Wide ResNets for Keras 3."""

from keras_dropblock import layers, models, schedules
from keras_dropblock.callbacks import KeepProbScheduler
from keras_dropblock.layers import DropBlock1D, DropBlock2D, DropBlock3D
from keras_dropblock.predicting import predict_images

__version__ = "0.1.0"

__all__ = [
    "DropBlock1D",
    "DropBlock2D",
    "DropBlock3D",
    "KeepProbScheduler",
    "layers",
    "models",
    "predict_images",
    "schedules",
]
