"""Fine-tuning of a classifier: initial weights, and frozen groups."""

import pathlib

import h5py

from keras_dropblock import keys, models
from keras_dropblock.errors import RecipeError, WeightsError

HEAD = "logits"  # the layer that is new
INITIAL_WEIGHTS = keys.key(
    None,
    "trained weights to start from, of the same network with any number of "
    "classes: a name, path or address as in keras_dropblock.load, or a "
    ".weights.h5 file; the head is always new; None: new weights",
)
FREEZE = keys.key(
    0,
    "number of groups, from the input on, that are not trained, with all "
    "layers before them; their batch normalization stays in inference mode; "
    "0: none",
    ">= 0",
    keys.is_not_negative,
)
HEAD_FACTOR = keys.key(
    1.0,
    "factor of the head's learning rate over that of the other layers",
    "> 0 and finite",
    keys.is_positive,
)


def source_of(initial_weights, model=None):
    """Load the network whose weights a new network starts from.

    Args:
        initial_weights: the key of the recipe.
        model: the new network, which describes the network of a
            `.weights.h5` file, except for its number of classes.

    Returns:
        A Keras model; None for a `.weights.h5` file if `model` is None.

    Raises:
        WeightsError: if there is no such network, or the file does not fit.
    """
    if not initial_weights.endswith(".weights.h5"):
        return models.network.hub().load(initial_weights)
    if model is None:
        return None
    config = model.get_config()
    for layer in config["layers"]:
        if layer["name"] == HEAD:
            layer["config"]["units"] = _classes(initial_weights)
    source = type(model).from_config(config)
    models.network.hub().weights.read_into(source, initial_weights)
    return source


def provenance(initial_weights):
    """License and origin of initial weights, for the card of a run.

    A model that is trained from weights of others keeps their license. The
    license of a file without a card is unknown.
    """
    card = getattr(source_of(initial_weights), "card", None)
    if card is None:
        name = pathlib.PurePath(initial_weights).name
        return {"license": "unknown", "origin": name}
    return {"license": card.license, "origin": card.origin}


def _classes(path):
    """Number of classes in a weights file of a network of this package."""
    try:
        with h5py.File(path) as file:
            return file["layers/dense/vars/1"].shape[0]  # the only bias
    except (OSError, KeyError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights of a network with a dense "
            f"layer for its classes: {error}"
        ) from error


def initialize(model, initial_weights, freeze):
    """Copy the initial weights, except the head's, and freeze groups.

    Args:
        model: a network of this package, with new weights.
        initial_weights, freeze: the keys of the recipe.

    Raises:
        WeightsError: if the source is missing, or is another network.
        RecipeError: if the network has fewer groups.
    """
    if initial_weights is not None:
        _copy(source_of(initial_weights, model), model, initial_weights)
    if freeze:
        _freeze(model, freeze)


def _copy(source, model, name):
    given = {layer.name: _kept(layer) for layer in source.layers}
    wanted = {layer.name: _kept(layer) for layer in model.layers}
    for weights in (given, wanted):
        weights.pop(HEAD, None)
    names = [key for key in {**wanted, **given} if _differ(key, wanted, given)]
    if names:
        raise WeightsError(
            f"`initial_weights` must be those of the network {model.name}, "
            "with any number of classes. These layers differ: "
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
    """Freeze everything up to the end of a group, also its statistics."""
    names = [layer.name for layer in model.layers]
    last = f"group{groups}"
    if last not in names:
        count = sum(f"group{i}" in names for i in range(1, 10))
        raise RecipeError(
            f"`freeze` must be at most {count}, the number of groups of "
            f"{model.name}. Received: freeze={groups}."
        )
    for layer in model.layers[: names.index(last) + 1]:
        layer.trainable = False
