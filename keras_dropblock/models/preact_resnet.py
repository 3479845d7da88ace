"""Pre-activation ResNets for CIFAR: thin and very deep."""

import keras

from keras_dropblock.layers.convolution import batch_norm, conv2d
from keras_dropblock.layers.residual import PreActivationBlock
from keras_dropblock.models.groups import (
    check_int,
    classifier,
    image_input,
    residual_groups,
)
from keras_dropblock.models.network import builder


@builder
def PreActResNet(
    depth,
    *,
    bottleneck=None,
    num_classes=10,
    input_shape=None,
    dropout=0.0,
    spatial_dropout=0.0,
    shortcut_dropout=0.0,
    survival_prob=1.0,
    keep_prob=1.0,
    block_size=7,
    dropblock_groups=(2, 3),
    dropblock_skip=True,
    weights=None,
    name=None,
):
    """Pre-activation ResNet for CIFAR: 110, 164 and 1001 layers.

    The Wide ResNet paper compares its wide networks with these. Three groups
    have 16, 32 and 64 channels. The blocks are basic blocks, or bottlenecks
    whose output has four times as many channels.

    Args:
        depth: `6n + 2` for basic blocks (110), `9n + 2` for bottlenecks (164,
            1001).
        bottleneck: whether the blocks are bottlenecks. None: from 164 layers
            on, as in the paper.
        others: see `WRN`.

    Returns:
        A functional `keras.Model` from normalized images to logits.

    Raises:
        ValueError: for a depth that does not match the blocks, or an argument
            out of its range.

    Example:
        >>> model = PreActResNet(164, survival_prob=0.5)

    Reference:
        He et al. 2016, https://arxiv.org/abs/1603.05027, tables 2 and 4.
    """
    blocks, bottleneck = layout(depth, bottleneck)

    def block_arguments(group):
        channels = 16 * 2 ** (group - 1)
        return {
            "filters": 4 * channels if bottleneck else channels,
            "inner_filters": channels,
            "kernel_sizes": (1, 3, 1) if bottleneck else (3, 3),
            "dropout": dropout,
            "spatial_dropout": spatial_dropout,
            "shortcut_dropout": shortcut_dropout,
            "block_size": block_size,
            "dropblock_skip": dropblock_skip,
        }

    inputs = image_input(input_shape, 32)
    x = conv2d(16, 3, name="stem")(inputs)
    x = residual_groups(
        x,
        PreActivationBlock,
        blocks,
        strides=(1, 2, 2),
        block_arguments=block_arguments,
        keep_prob=keep_prob,
        dropblock_groups=dropblock_groups,
        survival_prob=survival_prob,
    )
    x = batch_norm(keras.config.image_data_format(), name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    name = name or f"preact_resnet_{depth}"
    return classifier(
        inputs,
        x,
        num_classes,
        name=name,
        weights=weights,
        notation=f"PreActResNet-{depth}",
    )


def layout(depth, bottleneck=None):
    """(number of blocks in each group, whether they are bottlenecks).

    Raises:
        ValueError: see `PreActResNet`.
    """
    check_int("depth", depth)
    if bottleneck is None:
        bottleneck = depth >= 164
    step = 9 if bottleneck else 6
    blocks, rest = divmod(depth - 2, step)
    if blocks < 1 or rest:
        below = step * max(blocks, 1) + 2
        kind = "bottlenecks" if bottleneck else "basic blocks"
        raise ValueError(
            f"`depth` must be {step}n + 2 for {kind}. Received: "
            f"depth={depth}. Did you mean {below} or {below + step}?"
        )
    return [blocks] * 3, bottleneck
