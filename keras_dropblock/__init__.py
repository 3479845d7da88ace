"""DropBlock and Wide ResNets for Keras 3."""

# ruff: noqa: E402, I001
from keras_dropblock import startup

with startup.quiet_imports():
    import keras as _  # noqa: F401

from keras_dropblock import data, hub, layers, models, schedules, tasks
from keras_dropblock.callbacks import KeepProbScheduler
from keras_dropblock.errors import KerasDropBlockError
from keras_dropblock.exports import export
from keras_dropblock.hub import list_models, load, predict
from keras_dropblock.layers import DropBlock1D, DropBlock2D, DropBlock3D
from keras_dropblock.training.evaluation import evaluate
from keras_dropblock.training.recipe import Recipe
from keras_dropblock.training.trainer import fit

__version__ = "0.2.0"

__all__ = [
    "DropBlock1D",
    "DropBlock2D",
    "DropBlock3D",
    "KeepProbScheduler",
    "KerasDropBlockError",
    "Recipe",
    "data",
    "evaluate",
    "export",
    "fit",
    "hub",
    "layers",
    "list_models",
    "load",
    "models",
    "predict",
    "schedules",
    "tasks",
]
