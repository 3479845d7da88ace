"""The registry of the published models."""

import pathlib
import re

from keras_dropblock import files, keys, tasks
from keras_dropblock.errors import WeightsError
from keras_dropblock.hub.card import Card

# Generated from each models/<name>/card.json by tools/publish.py.
REGISTRY = pathlib.Path(__file__).with_name("published.json")


def cards():
    """The `Card`s of all published models, as a dict by name."""
    try:
        entries = files.parse_json(REGISTRY.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{REGISTRY} {error}") from error
    result = {}
    for name, entry in entries.items():
        card = Card.from_dict(entry, f"{REGISTRY.name}, {name}")
        if not card.published:
            raise WeightsError(
                f"{REGISTRY.name}, {name}: `metrics` must have the weights of "
                "a published model."
            )
        result[name] = card
    return result


def list_models():
    """List the published models with their scores.

    Returns:
        A dict from name to a dict with `network` (in the paper's notation),
        `dataset`, `task`, `parameters`, `bytes` (size of the weights),
        `license`, `n` (number of runs) and, for each metric of the task, its
        mean as `NAME` and its standard deviation as `NAME_std` (None if n is
        1).

    Example:
        >>> for name, of in list_models().items():
        ...     print(name, of["dataset"], of["accuracy"], of["n"])
    """
    return {name: _summary(card) for name, card in cards().items()}


def _summary(card):
    row = {
        "network": card.network,
        "dataset": card.dataset,
        "task": card.task,
        "parameters": card.metrics["parameters"],
        "bytes": card.metrics["weights"]["bytes"],
        "license": card.license,
        "n": card.metrics["n"],
    }
    for metric in tasks.find(card.task).metrics:
        score = card.metrics["scores"][metric.name]
        row[metric.name] = score["mean"]
        row[f"{metric.name}_std"] = score["std"]
    return row


def unknown(source):
    """The error for an unknown model. It suggests the nearest name."""
    known = cards()
    hint = f" Did you mean {keys.nearest(source, known)!r}?" if known else ""
    return WeightsError(
        "The model must be a folder, a .keras file, a file of Torch weights, a "
        "URL, an address hf://owner/name, or a published "
        f"model: {', '.join(known) or 'there are none'}. Received: "
        f"{source!r}.{hint}"
    )


def for_network(weights, network):
    """Find the `Card` of published weights for a network.

    Args:
        weights: name of a published model, or of a data set such as
            `"cifar10"`. The name of a data set selects the model that the
            registry marks as the default for this network and data set.
        network: name of the network in the paper's notation.

    Raises:
        WeightsError: if there are no such weights for this network.
    """
    fitting = {
        name: card for name, card in cards().items() if card.network == network
    }
    if weights in fitting:
        return fitting[weights]
    defaults = [
        name
        for name, card in fitting.items()
        if card.default and re.split("[:/]", card.dataset)[0] == weights
    ]
    if len(defaults) > 1:
        raise WeightsError(
            f"Only one model may be the default for {network} on {weights}, "
            f"but {', '.join(defaults)} are. Set `weights` to one of these "
            "names."
        )
    if defaults:
        return fitting[defaults[0]]
    raise WeightsError(
        "`weights` must be a path, such as './my.weights.h5', or a model "
        f"published for {network}: {', '.join(fitting) or 'there are none'}. "
        f"Received: weights={weights!r}."
    )
