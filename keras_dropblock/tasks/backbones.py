"""What tasks with a head on a backbone share: its weights and its norms."""

import keras

from keras_dropblock import keys, models
from keras_dropblock.errors import RecipeError

WEIGHTS = keys.key(
    None,
    "weights that the backbone starts from: the name or path of a trained "
    "model, as in keras_dropblock.load; None: new weights",
)
FROZEN_NORMS = keys.key(
    False,
    "whether batch normalization of the backbone keeps its statistics, gamma "
    "and beta, as usual with pretrained weights and small batches",
)


def backbone_of(builder, arguments):
    """Build the backbone of a card, without caring for its classifier.

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


def layers_of(model):
    """The layers of the backbone in a model, which may be nested."""
    for part in (model, *model._flatten_layers(include_self=False)):
        layers = getattr(part, "layers", None) or []
        if any(layer.name == "group4" for layer in layers):
            return layers
    return []


def initialize(layers, weights, frozen_norms):
    """Load the weights of a backbone and freeze its norms.

    Args:
        layers: the layers of the backbone; others are ignored.
        weights, frozen_norms: the keys of the recipe.
    """
    layers = {
        layer.name: layer
        for layer in layers
        if layer.name.startswith(("stem", "bn", "group"))
    }
    if weights is not None:
        _copy(weights, layers)
    if frozen_norms:
        for layer in layers.values():
            for part in layer._flatten_layers():
                if isinstance(part, keras.layers.BatchNormalization):
                    part.trainable = False


def _copy(weights, layers):
    """Copy the weights of a trained network into layers of equal names."""
    source = models.network.hub().load(weights)
    given = {layer.name: _lasting(layer) for layer in source.layers}
    for name, layer in layers.items():
        wanted = _lasting(layer)
        found = given.get(name, [])
        if [v.shape for v in wanted] != [v.shape for v in found]:
            raise RecipeError(
                f"`backbone_weights` must be weights of the network `model`. "
                f"{weights} has another layer {name}, or none: "
                f"{[tuple(v.shape) for v in found]} instead of "
                f"{[tuple(v.shape) for v in wanted]}."
            )
        for target, value in zip(wanted, found, strict=True):
            target.assign(value)


def _lasting(layer):
    """The variables of a layer, without the state of DropBlock and dropout."""
    passing = ("keep_prob", "seed_generator_state")
    return [v for v in layer.variables if v.name not in passing]
