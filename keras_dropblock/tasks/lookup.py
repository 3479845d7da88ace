"""Lookup of a task by its name in a recipe or a card."""

import importlib
import sys

from keras_dropblock import keys
from keras_dropblock.errors import RecipeError
from keras_dropblock.tasks.task import TASKS, Task


def find(name, *, may_import=True):
    """Find the class of a task.

    Args:
        name: one of `TASKS`, or `"module:Class"` for a subclass of `Task`.

    Raises:
        RecipeError: if there is no such task.
    """
    path = TASKS.get(name, name)
    module, separator, qualname = path.partition(":")
    if not separator:
        raise RecipeError(
            f"`task` must be one of {', '.join(TASKS)}, or module:Class for "
            f"a task of your own. Received: task={keys.shown(name)}. Did you "
            f"mean {keys.nearest(name, TASKS)}?"
        )
    if not (may_import or name in TASKS or module in sys.modules):
        raise RecipeError(
            f"`task` must be one of {', '.join(TASKS)}, or from a module that "
            f"is imported already. Received: task={keys.shown(name)}. If you "
            f"trust it, import {module} first."
        )
    try:
        task = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"`task` must name a class that can be imported. Received: "
            f"task={keys.shown(name)} ({error})."
        ) from error
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise RecipeError(
            f"`task` must be a subclass of keras_dropblock.tasks.Task. "
            f"Received: task={keys.shown(name)}."
        )
    return task
