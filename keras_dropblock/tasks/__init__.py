"""Tasks that a recipe can train, and the networks of these tasks."""

from keras_dropblock.tasks.backbones import freeze_norms
from keras_dropblock.tasks.classification import Classification
from keras_dropblock.tasks.detection import Detection
from keras_dropblock.tasks.fcn import FCN
from keras_dropblock.tasks.lookup import find
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.predictor import serving_inputs
from keras_dropblock.tasks.segmentation import Segmentation
from keras_dropblock.tasks.task import TASKS, Task
from keras_dropblock.tasks.vision import DeepLab, RetinaNet

__all__ = [
    "FCN",
    "TASKS",
    "Classification",
    "DeepLab",
    "Detection",
    "Metric",
    "RetinaNet",
    "Segmentation",
    "Task",
    "find",
    "freeze_norms",
    "serving_inputs",
]
