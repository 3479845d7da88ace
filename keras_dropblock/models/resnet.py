"""Post-activation ResNets for ImageNet, and ResNet-110 for CIFAR."""

import keras

from keras_dropblock.layers import masks
from keras_dropblock.layers.convolution import batch_norm, conv2d
from keras_dropblock.layers.residual import PostActivationBlock
from keras_dropblock.models.groups import (
    check_int,
    classifier,
    image_input,
    residual_groups,
)
from keras_dropblock.models.network import builder

# Blocks in each group, and whether they are bottlenecks.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
# Shortcuts of `CifarResNet`, and the ending of its notation.
SHORTCUTS = {"padding": "", "projection": "B"}


@builder
def ResNet(
    depth,
    width=1,
    *,
    num_classes=1000,
    input_shape=None,
    dropout=0.0,
    spatial_dropout=0.0,
    survival_prob=1.0,
    keep_prob=1.0,
    block_size=7,
    dropblock_groups=(3, 4),
    dropblock_skip=True,
    zero_init=False,
    weights=None,
    name=None,
):
    """Post-activation ResNet or Wide ResNet for ImageNet.

    `ResNet(50)` is ResNet-50, `ResNet(18, 1.5)` is WRN-18 with widening
    factor 1.5, and `ResNet(50, 2)` is WRN-50-2-bottleneck. In basic blocks
    (18, 34) all convs are widened. In bottlenecks (50, 101, 152) only the
    inner convs are widened, so their output still has 256, 512, 1024 and 2048
    channels. The stem always has 64 channels.

    DropBlock is applied at the four places of a bottleneck. By default, group
    4 has the full drop rate and group 3 a quarter of it. This is as in the
    DropBlock paper's ResNet-50, whose top-1 accuracy on ImageNet is 78.13 %
    with keep_prob 0.9 and block_size 7.

    Args:
        depth: 18, 34, 50, 101 or 152.
        width: factor of the channels, > 0; `64 * width` must be an integer.
        num_classes: number of logits.
        input_shape: shape of an image. None gives (224, 224, 3), or
            (3, 224, 224) if Keras's default data format is channels first.
            Height and width may be None.
        dropout: rate of Dropout between the convs of a block, in [0, 1].
        spatial_dropout: rate of SpatialDropout2D in the same places.
        survival_prob: survival probability of the last block under stochastic
            depth, in (0, 1].
        keep_prob: keep_prob of DropBlock in the last group, in [0, 1]. 1.0
            adds no DropBlock layer.
        block_size: block_size of DropBlock, in units of the feature map,
            int >= 1.
        dropblock_groups: groups that have DropBlock, among 1 to 4.
        dropblock_skip: whether to apply DropBlock to the shortcuts too, or
            only to the conv branches.
        zero_init: whether gamma of the last BN of each block starts at 0.
        weights: see `WRN`.
        name: name of the model, or None for a name like `resnet_50_2`.

    Returns:
        A functional `keras.Model` from normalized images to logits.

    Raises:
        ValueError: for an unknown depth or group, a width that does not give
            an integer number of channels, or an argument out of its range.

    Example:
        >>> model = ResNet(50, 2, keep_prob=0.9)  # WRN-50-2-bottleneck

    Reference:
        He et al. 2015, https://arxiv.org/abs/1512.03385, table 1, with the
        stride on the 3x3 conv; Zagoruyko and Komodakis 2016, section 3.1 and
        tables 7 and 8; Ghiasi et al. 2018, section 4.1.
    """
    blocks, bottleneck = layout(depth, width)

    def block_arguments(group):
        channels = 64 * 2 ** (group - 1)
        wide = int(channels * width)
        return {
            "filters": 4 * channels if bottleneck else wide,
            "inner_filters": wide,
            "kernel_sizes": (1, 3, 1) if bottleneck else (3, 3),
            "dropout": dropout,
            "spatial_dropout": spatial_dropout,
            "block_size": block_size,
            "dropblock_skip": dropblock_skip,
            "zero_init": zero_init,
        }

    inputs = image_input(input_shape, 224)
    x = conv2d(64, 7, 2, name="stem")(inputs)
    x = batch_norm(keras.config.image_data_format(), name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    # After a ReLU, padding with zeros gives the same maximum as padding with
    # minus infinity.
    x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    x = residual_groups(
        x,
        PostActivationBlock,
        blocks,
        strides=(1, 2, 2, 2),
        block_arguments=block_arguments,
        keep_prob=keep_prob,
        dropblock_groups=dropblock_groups,
        survival_prob=survival_prob,
    )
    if name is None:
        name = f"resnet_{depth}" + (f"_{width:g}" if width != 1 else "")
        name = name.replace(".", "p")
    notation = f"ResNet-{depth}" + (f"-{width:g}" if width != 1 else "")
    if bottleneck and width != 1:
        notation = f"WRN-{depth}-{width:g}-bottleneck"
    return classifier(
        inputs,
        x,
        num_classes,
        name=name,
        weights=weights,
        notation=notation,
    )


def layout(depth, width=1):
    """(number of blocks in each group, whether they are bottlenecks).

    Raises:
        ValueError: see `ResNet`.
    """
    check_int("depth", depth)
    if depth not in DEPTHS:
        nearest = min(DEPTHS, key=lambda known: abs(known - depth))
        raise ValueError(
            f"`depth` must be one of {tuple(DEPTHS)}. Received: "
            f"depth={depth!r}. Did you mean {nearest}?"
        )
    if not (
        masks.is_number(width) and width > 0 and float(64 * width).is_integer()
    ):
        raise ValueError(
            "`width` must be a factor > 0 for which 64 * width, the number of "
            f"channels, is an integer. Received: width={width!r}."
        )
    return DEPTHS[depth]


@builder
def CifarResNet(
    depth,
    *,
    shortcut="padding",
    num_classes=10,
    input_shape=None,
    dropout=0.0,
    spatial_dropout=0.0,
    survival_prob=1.0,
    keep_prob=1.0,
    block_size=7,
    dropblock_groups=(2, 3),
    dropblock_skip=True,
    weights=None,
    name=None,
):
    """The original ResNet for CIFAR, with 20 to 1202 layers.

    Three groups of basic blocks have 16, 32 and 64 channels. The Wide ResNet
    paper compares its networks with these thin and deep ones, and stochastic
    depth was designed for them. Its notation is `CifarResNet-110`, or
    `CifarResNet-110-B` with projection shortcuts.

    Args:
        depth: `6n + 2`: 20, 32, 44, 56, 110, 1202.
        shortcut: the shortcut where the number of channels changes.
            `"padding"` (option A) has no parameters. It takes every second
            row and column, and fills the new channels with zeros.
            `"projection"` (option B) is a 1x1 conv with BN, as in most
            networks that others published.
            All other shortcuts are the identity.
        others: see `WRN`.

    Returns:
        A functional `keras.Model` from normalized images to logits.

    Raises:
        ValueError: for a depth that is not `6n + 2`, an unknown shortcut, or
            an argument out of its range.

    Reference:
        He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2, and
        section 3.3 for the options. The paper's own networks for CIFAR have
        option A.
    """
    blocks = cifar_layout(depth, shortcut)
    inputs = image_input(input_shape, 32)
    x = conv2d(16, 3, name="stem")(inputs)
    x = batch_norm(keras.config.image_data_format(), name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = residual_groups(
        x,
        PostActivationBlock,
        blocks,
        strides=(1, 2, 2),
        block_arguments=lambda group: {
            "filters": 16 * 2 ** (group - 1),
            "dropout": dropout,
            "spatial_dropout": spatial_dropout,
            "block_size": block_size,
            "dropblock_skip": dropblock_skip,
            "projection": shortcut == "projection",
        },
        keep_prob=keep_prob,
        dropblock_groups=dropblock_groups,
        survival_prob=survival_prob,
    )
    letter = SHORTCUTS[shortcut]
    if name is None:
        name = f"cifar_resnet_{depth}" + (
            f"_{letter.lower()}" if letter else ""
        )
    return classifier(
        inputs,
        x,
        num_classes,
        name=name,
        weights=weights,
        notation=f"CifarResNet-{depth}" + (f"-{letter}" if letter else ""),
    )


def cifar_layout(depth, shortcut="padding"):
    """Number of blocks in each group.

    Raises:
        ValueError: see `CifarResNet`.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(
            "`shortcut` must be 'padding' (option A of the paper) or "
            "'projection' (option B). Received: "
            f"shortcut={shortcut!r}."
        )
    check_int("depth", depth)
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        below = 6 * max(blocks, 1) + 2
        raise ValueError(
            "`depth` must be 6n + 2 (20, 32, 44, 56, 110). Received: "
            f"depth={depth}. Did you mean {below} or {below + 6}?"
        )
    return [blocks] * 3
