"""Networks by the names that the papers print: `WRN-40-2-B(3,1,3)`."""

import re

from keras_dropblock.models.groups import in_data_format
from keras_dropblock.models.preact_resnet import PreActResNet
from keras_dropblock.models.resnet import CifarResNet, ResNet
from keras_dropblock.models.wide_resnet import WRN

_NUMBER = r"(\d+(?:\.\d+)?)"


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
        f"CifarResNet-110. Received: notation={notation!r}."
    )


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
    r"WRN-(\d+)-(\d+)(?:-(B\([\d, ]+\)))?": _wrn,
    rf"WRN-(\d+)-{_NUMBER}-bottleneck": _resnet,
    rf"ResNet-(\d+)(?:-{_NUMBER})?": _resnet,
    r"PreActResNet-(\d+)": lambda depth, **k: PreActResNet(int(depth), **k),
    r"CifarResNet-(\d+)": lambda depth, **k: CifarResNet(int(depth), **k),
}
