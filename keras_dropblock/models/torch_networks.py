"""The network that a Torch state dict belongs to, by names and shapes."""

import re

from keras_dropblock.errors import WeightsError
from keras_dropblock.keys import shown
from keras_dropblock.models.resnet import DEPTHS


def of(tensors, source):
    """Find the builder and its arguments for the tensors of a network.

    Args:
        tensors: dict from name to NumPy or Torch tensor, with the names of
            torchvision and timm, or of the original Wide ResNet release.
        source: name of the file, for error messages.

    Returns:
        (name of a builder in `BUILDERS`, dict of its arguments). They are a
        guess: `torch_weights.assign` compares every tensor.

    Raises:
        WeightsError: if no network of this package has such tensors.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        if "conv0" in shapes:
            found = _wide_resnet(shapes)
        elif len(shapes["conv1.weight"]) == 4:
            found = _resnet(shapes)
        else:
            found = None
        if found is not None:
            builder, arguments, channels = found
            return builder, {
                **arguments,
                "num_classes": shapes["fc.weight"][0],
                "input_shape": (*_SIDES[builder], channels),
            }
    except (KeyError, IndexError, ZeroDivisionError):
        pass  # a tensor is missing, or has too few axes
    raise WeightsError(
        f"{source} must hold the weights of a ResNet with torchvision's names, "
        "or of a WRN with the names of its original release. Its first "
        f"tensors: {shown(', '.join(sorted(shapes)[:8]))}."
    )


_SIDES = {"ResNet": (224, 224), "CifarResNet": (32, 32), "WRN": (32, 32)}


def _resnet(shapes):
    blocks = _blocks(shapes, r"layer(\d{1,3})\.(\d{1,4})\.")
    filters = shapes["layer1.0.conv1.weight"][0]
    channels = shapes["conv1.weight"][1]
    bottleneck = "layer1.0.conv3.weight" in shapes
    for depth, layout in DEPTHS.items():
        if layout == (blocks, bottleneck):
            width = filters / 64
            arguments = {"depth": depth} | (
                {"width": width} if width != 1 else {}
            )
            return "ResNet", arguments, channels
    if len(blocks) == 3 and len({*blocks}) == 1 and not bottleneck:
        projects = "layer2.0.downsample.0.weight" in shapes
        return (
            "CifarResNet",
            {
                "depth": 6 * blocks[0] + 2,
                "shortcut": "projection" if projects else "padding",
            },
            channels,
        )
    return None


def _wide_resnet(shapes):
    blocks = _blocks(shapes, r"group(\d{1,3})\.block(\d{1,4})\.")
    if len(blocks) != 3 or len({*blocks}) != 1:
        return None
    return (
        "WRN",
        {
            "depth": 6 * blocks[0] + 4,
            "width": shapes["group0.block0.conv0"][0] // 16,
        },
        shapes["conv0"][1],
    )


def _blocks(shapes, pattern):
    """Number of blocks in each group, a tuple."""
    matches = (re.match(pattern, name) for name in shapes)
    found = {(int(m[1]), int(m[2])) for m in matches if m}
    groups = sorted({group for group, _ in found})
    return tuple(sum(g == group for g, _ in found) for group in groups)
