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


def WRN(
    depth,
    width,
    *,
    block="B(3,3)",
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
    """Wide ResNet WRN-depth-width for small images.

    A stem conv of 16 channels, three groups of `16 * width`, `32 * width` and
    `64 * width` channels at full, half and quarter resolution, BN-ReLU,
    global average pooling and a dense layer. The output of each group can be
    taken by name: `model.get_layer("group2").output`.

    Group 3 drops at the full rate `1 - keep_prob`, group 2 at a quarter of
    it, group 1 at a sixteenth, where they are among `dropblock_groups`.

    Args:
        depth: number of convs, those of the shortcuts counted once a group:
            `6n + 4` for the named blocks and `3ln + 4` for l times B(3).
        width: factor k that multiplies the channels, int >= 1.
        block: B(M), the kernels of a block's convs. `"B(3,3)"`, `"B(3,1)"`,
            `"B(1,3)"`, `"B(1,3,1)"`, `"B(3,1,1)"` and `"B(3,1,3)"`, or B(3)
            repeated l times: `"B(3)"`, `"B(3,3,3)"`, `"B(3,3,3,3)"`.
        num_classes: number of logits.
        input_shape: shape of an image, or None for (32, 32, 3); with channels
            first as Keras's default, (3, 32, 32). Height and width may be
            None.
        dropout: rate of Dropout between the convs of a block, in [0, 1]. The
            paper uses 0.3 for CIFAR and 0.4 for SVHN.
        spatial_dropout: rate of SpatialDropout2D in the same places.
        survival_prob: of the last block under stochastic depth, in (0, 1];
            it falls linearly with depth. 1.0 adds no such layer.
        keep_prob: DropBlock's, in [0, 1]. 1.0 adds no DropBlock layer.
        block_size: DropBlock's, in units of the feature map, int >= 1.
        dropblock_groups: groups that have DropBlock, among 1, 2 and 3.
        dropblock_skip: whether it stands on the shortcuts too, or in the
            conv branches alone.
        weights: None; a path of weights of this network that Keras can load,
            with or without DropBlock; or published weights: the data set,
            such as `"cifar10"`, or the full name (`published()`). A path is a
            `pathlib.Path`, or a string with a suffix such as `.weights.h5`
            or with a separator (`"./cifar10"`). Any other string is a
            published name, even if the working directory has a file or a
            folder of that name.
        name: name of the model, or None for `wrn_depth_width`.

    Returns:
        A functional `keras.Model` from images, normalised with the training
        set's mean and standard deviation, to logits.

    Raises:
        ValueError: for a depth that the block does not fit, an unknown block
            or group, or an argument out of its range.

    Example:
        >>> model = WRN(28, 10, keep_prob=0.9)

    Reference:
        Zagoruyko and Komodakis 2016, "Wide Residual Networks",
        https://arxiv.org/abs/1605.07146, table 1. DropBlock's places and the
        quarter of the rate follow the code of Ghiasi et al. 2018; that paper
        has no Wide ResNet.
    """
    kernel_sizes = _parse_block(block)
    blocks = _blocks_per_group(depth, kernel_sizes)
    check_int("width", width)

    inputs = image_input(input_shape, 32)
    x = conv2d(16, 3, name="stem")(inputs)
    x = residual_groups(
        x,
        PreActivationBlock,
        [blocks] * 3,
        strides=(1, 2, 2),
        block_arguments=lambda group: {
            "filters": 16 * width * 2 ** (group - 1),
            "kernel_sizes": kernel_sizes,
            "dropout": dropout,
            "spatial_dropout": spatial_dropout,
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
        *(inputs, x, num_classes),
        name=name,
        weights=weights,
        notation=f"WRN-{depth}-{width}"
        + (f"-{block}" if block != "B(3,3)" else ""),
    )


# The blocks of the paper's table 2; those of its table 3 are 3s alone.
_NAMED_BLOCKS = ((3, 3), (3, 1), (1, 3), (1, 3, 1), (3, 1, 1), (3, 1, 3))


def _parse_block(block):
    """`"B(3,1,3)"` -> (3, 1, 3)."""
    match = re.fullmatch(r"B\((\d+(?:, ?\d+)*)\)", str(block))
    kernel_sizes = match and tuple(int(k) for k in match[1].split(","))
    if not match or not (
        kernel_sizes in _NAMED_BLOCKS or set(kernel_sizes) == {3}
    ):
        named = ", ".join(
            f"B({','.join(map(str, kernels))})" for kernels in _NAMED_BLOCKS
        )
        raise ValueError(
            f"`block` must be one of {named}, or B(3) repeated as in "
            f"'B(3,3,3)'. Received: block={block!r}."
        )
    return kernel_sizes


def _blocks_per_group(depth, kernel_sizes):
    """n, from the depth.

    B(3) repeated l times counts its convs, so depth = 3ln + 4: the paper's
    table 3 has 2.2 M parameters for every l. The named blocks have
    n = (depth - 4) / 6 whatever they hold: only so does every row of its
    table 2 have the number of parameters that is printed there.
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
