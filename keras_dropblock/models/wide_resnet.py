"""Wide ResNets for small images (CIFAR, SVHN)."""

import re

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
def WRN(
    depth,
    width,
    *,
    block="B(3,3)",
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
    """Wide ResNet WRN-depth-width for small images.

    The network has a stem conv with 16 channels; three groups with
    `16 * width`, `32 * width` and `64 * width` channels at full, half and
    quarter resolution; BN-ReLU; global average pooling; and a dense layer.
    The output of a group can be accessed by its name:
    `model.get_layer("group2").output`.

    Group 3 has the full drop rate `1 - keep_prob`, group 2 a quarter of it,
    and group 1 a sixteenth. Groups outside `dropblock_groups` drop nothing.

    Args:
        depth: number of convs, which includes one shortcut conv for each
            group: `6n + 4` for the named blocks, and `3ln + 4` for B(3)
            repeated l times.
        width: factor k that multiplies the channels, int >= 1.
        block: B(M), where M lists the kernel sizes of a block's convs; or M
            as a tuple. One of `"B(3,3)"` or `(3, 3)`, `"B(3,1)"`,
            `"B(1,3)"`, `"B(1,3,1)"`, `"B(3,1,1)"`, `"B(3,1,3)"`, or B(3)
            repeated l times: `"B(3)"`, `"B(3,3,3)"`, `"B(3,3,3,3)"`.
        num_classes: number of logits.
        input_shape: shape of an image. None gives (32, 32, 3), or (3, 32, 32)
            if Keras's default data format is channels first. Height and width
            may be None.
        dropout: rate of Dropout between the convs of a block, in [0, 1]. The
            paper uses 0.3 for CIFAR and 0.4 for SVHN.
        spatial_dropout: rate of SpatialDropout2D in the same places.
        shortcut_dropout: rate of Dropout on the shortcuts, in [0, 1]. He et
            al. 2016 used 0.5, which increased the error; the Wide ResNet paper
            therefore has dropout only between the convs.
        survival_prob: survival probability of the last block under stochastic
            depth, in (0, 1]; it falls linearly with depth. 1.0 adds no
            stochastic depth layer.
        keep_prob: keep_prob of DropBlock in the last group, in [0, 1]. 1.0
            adds no DropBlock layer.
        block_size: block_size of DropBlock, in units of the feature map,
            int >= 1.
        dropblock_groups: groups that have DropBlock, among 1, 2 and 3.
        dropblock_skip: whether to apply DropBlock to the shortcuts too, or
            only to the conv branches.
        weights: None; the path of weights of this network that Keras can
            load, with or without DropBlock; or published weights, given by
            the data set, such as `"cifar10"`, or by the full name (see
            `list_models()`). A path is a `pathlib.Path`, or a string with a
            suffix such as `.weights.h5` or with a separator (`"./cifar10"`).
            Any other string is a published name, even if the working
            directory has a file or folder with that name. `weights` does not
            change the network: only `keep_prob` adds DropBlock.
        name: name of the model, or None for `wrn_depth_width`.

    Returns:
        A functional `keras.Model` from images to logits. The images must be
        normalized with the mean and standard deviation of the training set.

    Raises:
        ValueError: for a depth that does not match the block, an unknown
            block or group, or an argument out of its range.

    Example:
        >>> model = WRN(28, 10, keep_prob=0.9)

    Reference:
        Zagoruyko and Komodakis 2016, "Wide Residual Networks",
        https://arxiv.org/abs/1605.07146, table 1. The places of DropBlock and
        the factor of a quarter follow the code of Ghiasi et al. 2018, whose
        paper has no Wide ResNet.
    """
    kernel_sizes, blocks = layout(depth, width, block)
    inputs = image_input(input_shape, 32)
    x = conv2d(16, 3, name="stem")(inputs)
    x = residual_groups(
        x,
        PreActivationBlock,
        blocks,
        strides=(1, 2, 2),
        block_arguments=lambda group: {
            "filters": 16 * width * 2 ** (group - 1),
            "kernel_sizes": kernel_sizes,
            "dropout": dropout,
            "spatial_dropout": spatial_dropout,
            "shortcut_dropout": shortcut_dropout,
            "block_size": block_size,
            "dropblock_skip": dropblock_skip,
        },
        keep_prob=keep_prob,
        dropblock_groups=dropblock_groups,
        survival_prob=survival_prob,
    )
    x = batch_norm(keras.config.image_data_format(), name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    name = name or f"wrn_{depth}_{width}"
    return classifier(
        inputs,
        x,
        num_classes,
        name=name,
        weights=weights,
        notation=_notation(depth, width, kernel_sizes),
    )


def _notation(depth, width, kernel_sizes):
    name = f"WRN-{depth}-{width}"
    if kernel_sizes == (3, 3):
        return name
    return f"{name}-B({','.join(map(str, kernel_sizes))})"


def layout(depth, width, block="B(3,3)"):
    """(kernel sizes of a block, number of blocks in each group).

    Raises:
        ValueError: see `WRN`.
    """
    kernel_sizes = _parse_block(block)
    blocks = _blocks_per_group(depth, kernel_sizes)
    check_int("width", width)
    return kernel_sizes, [blocks] * 3


# The blocks of the paper's table 2. Those of its table 3 repeat B(3).
_NAMED_BLOCKS = ((3, 3), (3, 1), (1, 3), (1, 3, 1), (3, 1, 1), (3, 1, 3))


def _parse_block(block):
    """Parse `"B(3,1,3)"` or (3, 1, 3) to (3, 1, 3)."""
    if isinstance(block, list | tuple):
        kernel_sizes = tuple(block)
    else:
        match = re.fullmatch(r"B\((\d+(?:, ?\d+)*)\)", str(block))
        kernel_sizes = match and tuple(int(k) for k in match[1].split(","))
    if not kernel_sizes or not (
        kernel_sizes in _NAMED_BLOCKS or set(kernel_sizes) == {3}
    ):
        named = ", ".join(
            f"B({','.join(map(str, kernels))})" for kernels in _NAMED_BLOCKS
        )
        raise ValueError(
            f"`block` must be one of {named}, or B(3) repeated as in "
            "'B(3,3,3)'; (3, 3) is the same as 'B(3,3)'. Received: "
            f"block={block!r}."
        )
    return kernel_sizes


def _blocks_per_group(depth, kernel_sizes):
    """Number of blocks in each group, n, from the depth.

    For B(3) repeated l times, every conv counts: depth = 3ln + 4. This gives
    2.2 M parameters for every l, as in the paper's table 3. The named blocks
    have n = (depth - 4) / 6, for any number of convs in the block. Only this
    rule gives the numbers of parameters in the paper's table 2.
    """
    step = 3 * len(kernel_sizes) if set(kernel_sizes) == {3} else 6
    check_int("depth", depth)
    blocks, rest = divmod(depth - 4, step)
    if blocks < 1 or rest:
        below = step * max(blocks, 1) + 4
        nearest = [below] if blocks < 1 else [below, below + step]
        raise ValueError(
            f"`depth` must be {step}n + 4 for "
            f"B({','.join(map(str, kernel_sizes))}). Received: depth={depth}. "
            f"Did you mean {' or '.join(map(str, nearest))}?"
        )
    return blocks
