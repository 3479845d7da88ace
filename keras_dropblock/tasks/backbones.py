"""Backbones of tasks with a head of their own: building, frozen norms."""

import keras

from keras_dropblock import keys, models
from keras_dropblock.errors import RecipeError
from keras_dropblock.tasks import transfer

FROZEN_NORMS = keys.key(
    False,
    "whether batch normalization of the backbone keeps its statistics, gamma "
    "and beta, as usual with pretrained weights and small batches",
)


def backbone_of(builder, arguments):
    """Build the backbone of a card. Its classifier is not used.

    Args:
        builder, arguments: see `Task.build`; `head` and `num_classes`, which
            belong to the task's own head, are left out.
    """
    kept = {
        name: value
        for name, value in arguments.items()
        if name not in ("head", "num_classes")
    }
    return models.BUILDERS[builder](num_classes=1, **kept)


def check_notation(notation, builder):
    """Raise RecipeError unless a network has the levels of a pyramid."""
    if builder != "ResNet":
        raise RecipeError(
            "`model` must be a network for ImageNet for this task, such as "
            "ResNet-50, ResNet-34-2 or WRN-50-2-bottleneck, with feature maps "
            f"of the strides 4 to 32. Received: model={notation}."
        )


def freeze_norms(model):
    """Stop the training of batch normalization in the backbone of a model.

    It keeps its statistics, gamma and beta, as usual with pretrained weights
    and small batches. Compile the model after this.

    Args:
        model: a network of a task, such as that of `kdb.tasks.RetinaNet`.
    """
    for layer in transfer.shared_layers(model).values():
        for part in layer._flatten_layers():
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = False
