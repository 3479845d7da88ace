"""Cards of networks in timm's format, from their `config.json`."""

import pathlib

from keras_dropblock import models
from keras_dropblock.errors import WeightsError
from keras_dropblock.hub.card import Card
from keras_dropblock.keys import nearest, shown

# timm's and torchvision's names of our networks.
ARCHITECTURES = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    "wide_resnet50_2": "WRN-50-2-bottleneck",
    "wide_resnet101_2": "WRN-101-2-bottleneck",
}
# timm's `crop_mode`, and our `framing`.
_FRAMINGS = {
    "center": "resize_crop",
    "squash": "squash_crop",
    "border": "border_crop",
}
_REQUIRED = ("input_size", "crop_pct", "interpolation", "mean", "std")


def imagenet_classes():
    """Names of the 1,000 classes of ImageNet, in the order of the logits.

    Each is the first name in WordNet. Three classes have a different one,
    because a name must belong to one class only.
    """
    path = pathlib.Path(__file__).with_name("imagenet_classes.txt")
    return tuple(path.read_text("utf-8").splitlines())


def class_names(num_classes):
    """ImageNet's names for 1,000 classes; () for another number."""
    names = imagenet_classes()
    return names if num_classes == len(names) else ()


def card(config, source, origin=""):
    """Read timm's `config.json` as a card.

    The preprocessing is that of timm's evaluation: the `test_` keys are used
    where they exist.

    Args:
        config: dict of JSON values, the content of `config.json`.
        source: name of the file, for error messages.
        origin: address of the weights, for `Card.origin`.

    Raises:
        WeightsError: if the network is not one of `ARCHITECTURES`, has no
            head, or a value is missing or invalid.
    """
    architecture = _architecture(config, source)
    settings = config.get("pretrained_cfg", config)
    if not isinstance(settings, dict):
        raise WeightsError(
            f"{source}: `pretrained_cfg` must be an object. Received: "
            f"{shown(settings)}."
        )
    missing = [key for key in _REQUIRED if key not in settings]
    if missing:
        raise WeightsError(f"{source}: missing keys: {', '.join(missing)}.")
    num_classes = config.get("num_classes", settings.get("num_classes"))
    if num_classes == 0:
        raise WeightsError(
            f"{source}: `num_classes` is 0, so these weights have no head and "
            "cannot classify. Choose weights of the same network with classes."
        )
    size = settings.get("test_input_size") or settings["input_size"]
    if not _is_size(size):
        raise WeightsError(
            f"{source}: `input_size` must be [channels, height, width]. "
            f"Received: {shown(size)}."
        )
    builder, arguments = models.notation.parse(ARCHITECTURES[architecture])
    tag = settings.get("tag")
    names = config.get("label_names") or settings.get("label_names")
    if not names:
        names = class_names(num_classes)
    content = {
        "name": f"{architecture}.{tag}"
        if isinstance(tag, str)
        else architecture,
        "network": ARCHITECTURES[architecture],
        "builder": builder,
        "arguments": {
            **arguments,
            "num_classes": num_classes,
            "input_shape": [*size[1:], size[0]],
        },
        "preprocessing": _preprocessing(settings, size, source),
        "class_names": [*names] if isinstance(names, tuple) else names,
        "license": settings.get("license") or "unknown",
        "origin": origin,
    }
    result = Card.from_dict(content, source)
    _check_classes(result, source)
    return result


def _architecture(config, source):
    architecture = config.get("architecture")
    if type(architecture) is not str or architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{source}: `architecture` must be one of "
            f"{', '.join(ARCHITECTURES)}. Received: {shown(architecture)}. "
            f"The nearest is {nearest(str(architecture), ARCHITECTURES)}, "
            "but its weights would not fit."
        )
    changes = config.get("model_args") or {}
    if not isinstance(changes, dict) or {*changes} - {"num_classes"}:
        raise WeightsError(
            f"{source}: `model_args` must not change the network. Received: "
            f"{shown(changes)}."
        )
    return architecture


def _preprocessing(settings, size, source):
    crop_mode = settings.get("crop_mode") or "center"
    if crop_mode not in [*_FRAMINGS]:
        raise WeightsError(
            f"{source}: `crop_mode` must be one of {', '.join(_FRAMINGS)}. "
            f"Received: {shown(crop_mode)}."
        )
    crop_pct = settings.get("test_crop_pct") or settings["crop_pct"]
    for key in ("mean", "std"):
        if not _are_numbers(settings[key], size[0]):
            raise WeightsError(
                f"{source}: `{key}` must be a list of {size[0]} numbers, one "
                f"for each channel. Received: {shown(settings[key])}."
            )
    return {
        "image_size": size[1:],
        "mean": [round(255 * x, 6) for x in settings["mean"]],
        "std": [round(255 * x, 6) for x in settings["std"]],
        "crop_fraction": crop_pct,
        "interpolation": settings["interpolation"],
        "framing": _FRAMINGS[crop_mode],
    }


def _are_numbers(values, count):
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(x) in (int, float) and abs(x) < 1e9 for x in values)
    )


def _is_size(size):
    return (
        isinstance(size, list)
        and len(size) == 3
        and all(type(side) is int and side >= 1 for side in size)
    )


def _check_classes(card, source):
    num_classes = card.arguments["num_classes"]
    if type(num_classes) is not int or not 1 <= num_classes < 2**31:
        raise WeightsError(
            f"{source}: `num_classes` must be an integer >= 1. Received: "
            f"{shown(num_classes)}."
        )
    if card.class_names and len(card.class_names) != num_classes:
        raise WeightsError(
            f"{source}: `label_names` must have one name for each of the "
            f"{num_classes} classes. Received: {len(card.class_names)} names."
        )
