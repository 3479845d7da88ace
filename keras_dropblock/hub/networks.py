"""Networks with trained weights: built from a card, or from a Torch file."""

import collections
import dataclasses
import logging
import math
import pathlib

from keras_dropblock import models, tasks
from keras_dropblock.data import Preprocessing
from keras_dropblock.data.preprocessing import IMAGENET
from keras_dropblock.errors import WeightsError
from keras_dropblock.hub import contents, huggingface, registry, timm, weights
from keras_dropblock.hub.card import Card
from keras_dropblock.models import torch_networks, torch_weights

_log = logging.getLogger(__name__)


def with_weights(card, path):
    """Build the network of a card and load its weights from a file.

    Raises:
        WeightsError: if the weights do not fit the network, or the network
            cannot be built.
    """
    _check_size(path, card.network, card.builder, card.arguments)
    model = card.build()
    _read_into(model, path)
    return model


def _check_size(path, network, builder, arguments):
    """Check the size of a file before its network is built.

    An untrusted card or file can describe a network that does not fit into
    memory.
    """
    size = pathlib.Path(path).stat().st_size
    bytes_each = 2 if weights.is_torch(path) else 4  # Torch: float16 too
    least = bytes_each * models.notation.fewest_parameters(builder, arguments)
    if least > size:
        raise WeightsError(
            f"{path} must have the weights of {network or builder}, more than "
            f"{least:,} bytes. The file has {size:,} bytes. Does it belong to "
            "another model?"
        )


def _check_is_stored(path, tensors):
    """Check that a file is large enough for its tensors.

    A file can declare a tensor of any shape whose values are all the same.
    """
    size = pathlib.Path(path).stat().st_size
    least = 2 * sum(math.prod(tensor.shape) for tensor in tensors.values())
    if least > size:
        raise WeightsError(
            f"{path} must have at least {least:,} bytes for the shapes of its "
            f"tensors. It has {size:,} bytes."
        )


def _read_into(model, path):
    if weights.is_torch(path):
        models.torch_weights.load(model, path)
    else:
        weights.read_into(model, path)


def of_torch_file(path):
    """The model in a single file of Torch weights, such as `resnet50.pth`.

    A timm `config.json` in the same folder describes it. Without one, the
    network is found from the names and shapes of the tensors.

    Returns:
        `Network`. Its card has the license "unknown". The preprocessing of a
        ResNet for the 1,000 classes of ImageNet is that of torchvision's
        first weights. Other networks get no card, because their preprocessing
        is not known.
    """
    path = pathlib.Path(path)
    card = contents.timm_card_beside(path)
    if card is not None:
        return with_weights(card, path)
    tensors = torch_weights.read(path)
    builder, arguments = torch_networks.of(tensors, path)
    card = _usual_card(path.stem, builder, arguments)
    _check_is_stored(path, tensors)
    shape = models.in_data_format(arguments["input_shape"])
    network = models.BUILDERS[builder](**{**arguments, "input_shape": shape})
    torch_weights.assign(network, tensors, path)
    network.card = card
    return network


def _usual_card(name, builder, arguments):
    """Card of an ImageNet ResNet without a description; else None."""
    names = timm.class_names(arguments["num_classes"])
    if builder != "ResNet" or not names or arguments["input_shape"][-1] != 3:
        return None
    _log.warning(
        "%s has no config.json. Its images are resized to 256 pixels and "
        "cropped to 224, as for torchvision's first weights.",
        name,
    )
    mean, std = IMAGENET
    return Card(
        name=name,
        preprocessing=Preprocessing(
            (224, 224), mean, std, 0.875, "bilinear", "resize_crop"
        ),
        class_names=names,
        builder=builder,
        arguments={**arguments, "input_shape": [224, 224, 3]},
        license="unknown",
    )


def with_new_head(model, num_classes):
    """Copy a model, with a new head for other classes.

    Layers that were inserted into the model are kept: see
    `models.insert_dropblock`.

    Args:
        model: a model with a card.
        num_classes: number of logits, int >= 1.

    Returns:
        A new model. Its card has no scores and the class names 0, 1, ...

    Raises:
        WeightsError: if layers were inserted into a model inside the model.
    """
    card = dataclasses.replace(
        model.card,
        arguments={**model.card.arguments, "num_classes": num_classes},
        class_names=tuple(str(i) for i in range(num_classes)),
        default=False,
        metrics={},
    )
    result = card.build()
    head = tasks.find(card.task).head_layers
    inserted = _kinds(model) - _kinds(result)
    if inserted:
        result = _with_head(model, head, num_classes, inserted)
        result.card = card
    models.copy_weights(model, result, but=head)
    return result


def _kinds(model):
    """Number of layers of each class in a model.

    Not their names, which Keras counts up for some layers of KerasHub.
    """
    return collections.Counter(
        type(layer).__name__
        for layer in model._flatten_layers(include_self=False)
    )


def _with_head(model, head, num_classes, inserted):
    """Build a model that its card does not describe, with another head.

    Args:
        model, num_classes: see `with_new_head`.
        head: names of the layers of the head.
        inserted: classes of the layers that the card does not describe.
    """
    config = model.get_config()
    layers = [x for x in config.get("layers", ()) if x["name"] in head]
    if not layers:
        raise WeightsError(
            f"`num_classes` cannot replace the head of {model.name}, because "
            "layers were inserted into a model inside it: "
            f"{', '.join(inserted)}. Replace the head first, then insert the "
            "layers."
        )
    for layer in layers:
        size = "units" if "units" in layer["config"] else "filters"
        layer["config"][size] = num_classes
    return type(model).from_config(config)


def load_weights(model, source, network):
    """Load the argument `weights` of a builder. See `models.WRN`.

    Args:
        model: the network, with random weights.
        source: a path of a file or a folder (see `weights.is_path`); an
            address `hf://owner/name`; or the name of a model or data set (see
            `registry.for_network`).
        network: name of the network in the paper's notation.
    """
    place = _place(source)
    if place is None and weights.is_path(source):
        _read_into(model, source)
        return
    if place is None:
        card, path = registry.for_network(source, network), None
    else:
        card, path = contents.card_and_weights(place)
    if card is None or card.network != network:
        raise WeightsError(
            f"`weights` must be of {network}. {source} holds "
            f"{card.network if card else 'a model that Keras saved'}. "
            "keras_dropblock.load returns the model that it holds."
        )
    _check_fits(model, card, card.name if path is None else str(source))
    _read_into(model, path or weights.of_card(card))
    model.card = card


def _place(source):
    """The repository or the folder of a source, or None."""
    if str(source).startswith(huggingface.SCHEME):
        return huggingface.Repository.of(source)
    if weights.is_path(source) and pathlib.Path(source).is_dir():
        return contents.Folder(source)
    return None


def _check_fits(model, card, source):
    for what, received, published, hint in (
        (
            "outputs",
            model.output.shape[-1],
            card.arguments["num_classes"],
            f" Use keras_dropblock.load({source!r}, num_classes=...) for a "
            "new head.",
        ),
        (
            "channels",
            models.image_shape(model)[-1],
            card.image_shape[-1],
            "",
        ),
    ):
        if received != published:
            raise WeightsError(
                f"The weights of {card.name} need {published} {what}. "
                f"Received: {received}.{hint}"
            )
