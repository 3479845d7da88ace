"""Networks by the names that the papers print: `WRN-40-2-B(3,1,3)`."""

import re

from keras_dropblock.models.groups import in_data_format
from keras_dropblock.models.preact_resnet import PreActResNet
from keras_dropblock.models.resnet import CifarResNet, ResNet
from keras_dropblock.models.wide_resnet import WRN
from keras_dropblock.recipe_text import shown

# With so few digits no number is infinite; a sign of another script is none.
_WHOLE = r"([0-9]{1,6})"
_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)"


def from_notation(notation, **arguments):
    """Build the network that is called by this name.

    - `WRN-28-10`, `WRN-40-2-B(3,1,3)`: Wide ResNets for small images.
    - `WRN-50-2-bottleneck`: the paper's for ImageNet.
    - `ResNet-50`, `ResNet-18-1.5`: post-activation, for ImageNet. The second
      is widened: the paper's WRN-18 with factor 1.5, whose printed name would
      not tell it from one for CIFAR.
    - `PreActResNet-164`, `CifarResNet-110`: thin and deep, for small images.

    Args:
        notation: the name.
        **arguments: passed to the builder, which rejects unknown ones.

    Returns:
        A functional `keras.Model` that gives logits.

    Raises:
        ValueError: if the name cannot be read, or from the builder.

    Example:
        >>> model = from_notation("WRN-40-2-B(3,1,3)", num_classes=100)

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 2 ("WRN-n-k" and "B(M)") and section 3.1.
    """
    for pattern, build in _PATTERNS.items():
        match = re.fullmatch(pattern, notation)
        if match:
            return build(*match.groups(), **arguments)
    raise ValueError(
        "`notation` must read like WRN-28-10, WRN-40-2-B(3,1,3), "
        "WRN-50-2-bottleneck, ResNet-50, ResNet-18-1.5, PreActResNet-164 or "
        "CifarResNet-110, with numbers of 1 to 6 digits. Received: "
        f"notation={shown(notation)}."
    )


def fewest_parameters(notation):
    """Fewer parameters than the network has, without building it.

    More than half of (depth - 4) times the square of the channels that the
    convs of the last group have: 64 * width, for ImageNet 512 * width. Tells
    a network that fills the memory from one that does not.

    Args:
        notation: see `from_notation`.

    Returns:
        An int; 0 for what is no notation.
    """
    for pattern, build in _PATTERNS.items():
        match = re.fullmatch(pattern, notation)
        if match:
            depth, width, *_ = (*match.groups(), None)
            channels = (512 if build is _resnet else 64) * float(width or 1)
            return max(int((int(depth) - 4) * channels**2 / 2), 0)
    return 0


def from_recipe(recipe, image_shape, num_classes):
    """The network of a `Recipe`, with its regularisers.

    Its input has Keras's default data format; `image_shape` has none: it is
    always (height, width, channels).
    """
    options = (
        *("dropout", "spatial_dropout", "survival_prob", "keep_prob"),
        *("block_size", "dropblock_groups", "dropblock_skip"),
    )
    arguments = {option: getattr(recipe, option) for option in options}
    if recipe.zero_init:  # an argument of post-activation ResNets alone
        arguments["zero_init"] = True
    return from_notation(
        recipe.model,
        input_shape=in_data_format(image_shape),
        num_classes=num_classes,
        **arguments,
    )


def _wrn(depth, width, block, **arguments):
    if block is None:
        return WRN(int(depth), int(width), **arguments)
    # Not `arguments["block"] = block`: naming it twice is an error.
    return WRN(int(depth), int(width), block=block, **arguments)


def _resnet(depth, width, **arguments):
    return ResNet(int(depth), float(width or 1), **arguments)


_PATTERNS = {
    rf"WRN-{_WHOLE}-{_WHOLE}(?:-(B\([0-9, ]+\)))?": _wrn,
    rf"WRN-{_WHOLE}-{_NUMBER}-bottleneck": _resnet,
    rf"ResNet-{_WHOLE}(?:-{_NUMBER})?": _resnet,
    rf"PreActResNet-{_WHOLE}": lambda depth, **k: PreActResNet(int(depth), **k),
    rf"CifarResNet-{_WHOLE}": lambda depth, **k: CifarResNet(int(depth), **k),
}
