"""Fine-tuning: initial weights, and frozen groups, for every task."""

import dataclasses
import pathlib

import h5py

from keras_dropblock import keys, models
from keras_dropblock.errors import RecipeError, WeightsError
from keras_dropblock.tasks.task import Task

# The names of the layers outside the head start with one of these.
_SHARED = ("stem", "bn", "group")


@dataclasses.dataclass(frozen=True)
class FineTuned(Task):
    """Base class of tasks whose training may start from trained weights.

    All layers of the recipe's network get the initial weights, except those
    of the head. It does not matter which task the weights were trained for.
    """

    initial_weights: str | None = keys.key(
        None,
        "trained weights to start from, of the same network with any head: a "
        "name, path or address as in keras_dropblock.load, or a .weights.h5 "
        "file of a classifier; the head is always new; None: random weights",
    )
    freeze: int = keys.key(
        0,
        "number of groups, counted from the input, that are not trained, nor "
        "any layer before them; their batch normalization stays in inference "
        "mode",
        ">= 0",
        keys.is_not_negative,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.freeze and self.initial_weights is None:
            raise RecipeError(
                "`freeze` needs `initial_weights`: random weights must be "
                f"trained. Received: freeze={self.freeze}."
            )

    def initialize(self, model):
        """Copy the initial weights, except the head's, and freeze groups.

        Raises:
            WeightsError: if the source is missing, or is another network.
            RecipeError: if the network has fewer groups.
        """
        if self.initial_weights is not None:
            source = source_of(self.initial_weights, model.card)
            _copy(source, model, self.initial_weights)
        if self.freeze:
            _freeze(model, self.freeze)

    def initial_preprocessing(self):
        card = self._initial_card()
        return card and card.preprocessing

    def provenance(self):
        """License and origin of the initial weights, which still apply.

        The license of weights without a card is unknown.
        """
        if self.initial_weights is None:
            return {}
        card = self._initial_card()
        if card is None:
            name = pathlib.PurePath(self.initial_weights).name
            return {"license": "unknown", "origin": name}
        return {"license": card.license, "origin": card.origin}

    def _initial_card(self):
        """The `hub.Card` of the initial weights, or None."""
        if self.initial_weights is None:
            return None
        return getattr(source_of(self.initial_weights), "card", None)


def source_of(initial_weights, card=None):
    """Load the network whose weights a new network starts from.

    Args:
        initial_weights: the key of the recipe.
        card: `hub.Card` of the new network, which describes the network of a
            `.weights.h5` file, except for its number of classes.

    Returns:
        A Keras model; None for a `.weights.h5` file if `card` is None.

    Raises:
        WeightsError: if there is no such network, or the file does not fit.
    """
    if not initial_weights.endswith(".weights.h5"):
        return models.network.hub().load(initial_weights)
    if card is None:
        return None
    arguments = {**card.arguments, "num_classes": _classes(initial_weights)}
    arguments["input_shape"] = models.in_data_format(arguments["input_shape"])
    arguments.pop("head", None)  # of another task than classification
    source = models.BUILDERS[card.builder](**arguments)
    models.network.hub().weights.read_into(source, initial_weights)
    return source


def _classes(path):
    """Number of classes in a weights file of a network of this package."""
    try:
        with h5py.File(path) as file:
            return file["layers/dense/vars/1"].shape[0]  # the only bias
    except (OSError, KeyError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights of a classifier of this "
            f"package: {error}. For weights of another task, give the work "
            "directory of the run."
        ) from error


def shared_layers(model):
    """Layers that do not belong to the head: dict from name to layer.

    Args:
        model: a network of this package, or a model around one, for any task.
    """
    for part in (model, *model._flatten_layers(include_self=False)):
        layers = getattr(part, "layers", None) or []
        if any(layer.name == "group1" for layer in layers):
            return {
                layer.name: layer
                for layer in layers
                if layer.name.startswith(_SHARED)
            }
    return {}


def _copy(source, model, name):
    given, wanted = (
        {key: _kept(layer) for key, layer in shared_layers(part).items()}
        for part in (source, model)
    )
    names = [key for key in {**wanted, **given} if _differ(key, wanted, given)]
    if names or not wanted:
        raise WeightsError(
            f"`initial_weights` must be those of the network "
            f"{model.card.network}, with any head. These layers differ: "
            f"{', '.join(names[:8])}{' ...' if names[8:] else ''}. Received: "
            f"initial_weights={name!r}, which is {source.name}."
        )
    for key, variables in wanted.items():
        for target, value in zip(variables, given.get(key, ()), strict=True):
            target.assign(value)


def _kept(layer):
    """The weights of a layer that its weights file has: see DropBlock2D."""
    return [v for v in layer.weights if v.name != "keep_prob"]


def _differ(name, wanted, given):
    shapes = [
        [tuple(v.shape) for v in weights.get(name, ())]
        for weights in (wanted, given)
    ]
    return shapes[0] != shapes[1]


def _freeze(model, groups):
    """Freeze all layers up to the end of a group, with their statistics."""
    layers = shared_layers(model)
    last = f"group{groups}"
    if last not in layers:
        count = sum(f"group{i}" in layers for i in range(1, 10))
        raise RecipeError(
            f"`freeze` must be at most {count}, the number of groups of "
            f"{model.card.network}. Received: freeze={groups}."
        )
    for name, layer in layers.items():
        layer.trainable = False
        if name == last:
            return
