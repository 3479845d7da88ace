"""Networks by the notation of the papers, such as `WRN-40-2-B(3,1,3)`."""

import re

from keras_dropblock.keys import shown
from keras_dropblock.layers.block import check_dropout_has_a_place
from keras_dropblock.models import (
    highway,
    preact_resnet,
    resnet,
    wide_resnet,
)
from keras_dropblock.models.groups import drop_rates
from keras_dropblock.models.highway import HighwayNet
from keras_dropblock.models.preact_resnet import PreActResNet
from keras_dropblock.models.resnet import CifarResNet, ResNet
from keras_dropblock.models.wide_resnet import WRN

# At most six digits, so that a number is finite. [0-9], because \d also
# matches the digits of other scripts.
_WHOLE = r"([0-9]{1,6})"
_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)"


def from_notation(notation, **arguments):
    """Build a network from its name in the notation of the papers.

    - `WRN-28-10`, `WRN-40-2-B(3,1,3)`: Wide ResNets for small images.
    - `WRN-50-2-bottleneck`: the Wide ResNet paper's network for ImageNet.
    - `ResNet-50`, `ResNet-18-1.5`: post-activation, for ImageNet. The second
      is the paper's WRN-18 with widening factor 1.5. It has a different name
      here, because `WRN-18-1.5` would look like a network for CIFAR.
    - `PreActResNet-164`, `CifarResNet-110`: thin and deep, for small images.
      `CifarResNet-110-B` has projection shortcuts (option B).
    - `HighwayNet-19-2`: depth and width of a highway network.

    Args:
        notation: the name.
        **arguments: passed to the builder.

    Returns:
        A functional `keras.Model` that returns logits.

    Raises:
        ValueError: if the name cannot be read, or from the builder.

    Example:
        >>> model = from_notation("WRN-40-2-B(3,1,3)", num_classes=100)

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 2 ("WRN-n-k" and "B(M)") and section 3.1.
    """
    builder, parsed = parse(notation)
    return BUILDERS[builder](**parsed, **arguments)


def parse(notation):
    """Read a network's name.

    Returns:
        (name of a builder in `BUILDERS`, dict of its arguments).

    Raises:
        ValueError: if the name cannot be read.
    """
    for pattern, (builder, arguments) in _PATTERNS.items():
        match = re.fullmatch(pattern, notation)
        if match:
            return builder, {
                name: convert(text)
                for (name, convert), text in zip(
                    arguments.items(), match.groups(), strict=True
                )
                if text is not None
            }
    raise ValueError(
        "`notation` must read like WRN-28-10, WRN-40-2-B(3,1,3), "
        "WRN-50-2-bottleneck, ResNet-50, ResNet-18-1.5, PreActResNet-164, "
        "CifarResNet-110 or HighwayNet-19-2, with numbers of 1 to 6 digits. "
        f"Received: notation={shown(notation)}."
    )


def check(
    notation,
    *,
    dropblock_groups=None,
    dropout=0.0,
    spatial_dropout=0.0,
    shortcut_dropout=0.0,
):
    """Check that a network can be built, without building it.

    Args:
        notation: name of the network.
        others: see the builder.

    Raises:
        ValueError: if it cannot be built.
    """
    builder, arguments = parse(notation)
    if shortcut_dropout and builder not in ("WRN", "PreActResNet"):
        raise ValueError(
            "`shortcut_dropout` must be 0 in this network: only WRN and "
            f"PreActResNet have it. Received: "
            f"shortcut_dropout={shortcut_dropout}."
        )
    if builder == "WRN":
        kernel_sizes, blocks = wide_resnet.layout(**arguments)
        check_dropout_has_a_place(kernel_sizes, dropout, spatial_dropout)
    elif builder == "ResNet":
        blocks, _ = resnet.layout(**arguments)
    elif builder == "PreActResNet":
        blocks, _ = preact_resnet.layout(**arguments)
    elif builder == "HighwayNet":
        blocks = highway.layout(**arguments)
        highway.check_dropout(dropout, spatial_dropout)
    else:
        blocks = resnet.cifar_layout(**arguments)
    drop_rates(1.0, dropblock_groups, len(blocks))


def fewest_parameters(builder, arguments):
    """A lower bound on the number of parameters, without building.

    It is used to reject a network that would not fit into memory. The bound
    is `(depth - 4) * channels^2 / 2` for the convs, plus the head. `channels`
    is that of the last group: 64 * width, or 512 * width for ImageNet.

    Args:
        builder: name of a builder in `BUILDERS`.
        arguments: dict of arguments for the builder.

    Returns:
        An int; 0 if the arguments are not valid for a builder.
    """
    numbers = [
        arguments.get(name, usual)
        for name, usual in (("depth", 0), ("width", 1), ("num_classes", 1))
    ]
    if not all(type(n) in (int, float) and 0 < n < 1e9 for n in numbers):
        return 0
    depth, width, num_classes = numbers
    channels = (512 if builder == "ResNet" else 64) * width
    convs = max((depth - 4) * channels**2 / 2, 0)
    return int(convs + num_classes * channels) if convs else 0


BUILDERS = {
    "WRN": WRN,
    "ResNet": ResNet,
    "PreActResNet": PreActResNet,
    "CifarResNet": CifarResNet,
    "HighwayNet": HighwayNet,
}
_DEPTH = {"depth": int}
_PATTERNS = {
    rf"WRN-{_WHOLE}-{_WHOLE}(?:-(B\([0-9, ]+\)))?": (
        "WRN",
        {"depth": int, "width": int, "block": str},
    ),
    rf"WRN-{_WHOLE}-{_NUMBER}-bottleneck": (
        "ResNet",
        {"depth": int, "width": float},
    ),
    rf"ResNet-{_WHOLE}(?:-{_NUMBER})?": (
        "ResNet",
        {"depth": int, "width": float},
    ),
    rf"HighwayNet-{_WHOLE}-{_WHOLE}": (
        "HighwayNet",
        {"depth": int, "width": int},
    ),
    rf"PreActResNet-{_WHOLE}": ("PreActResNet", _DEPTH),
    rf"CifarResNet-{_WHOLE}(?:-(B))?": (
        "CifarResNet",
        {"depth": int, "shortcut": {"B": "projection"}.get},
    ),
}
