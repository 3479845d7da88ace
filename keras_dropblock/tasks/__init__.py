"""Tasks that a recipe can train. So far there is only classification."""

from keras_dropblock.tasks.classification import Classification
from keras_dropblock.tasks.task import (
    TASKS,
    Metric,
    Task,
    find,
    serving_inputs,
)

__all__ = [
    "TASKS",
    "Classification",
    "Metric",
    "Task",
    "find",
    "serving_inputs",
]
