"""Wide ResNets for small images (CIFAR, SVHN)."""

import numbers
import re

import keras

from keras_dropblock.layers.residual import (
    PreActivationBlock,
    batch_norm,
    conv2d,
)

GROUPS = (1, 2, 3)


def WRN(
    depth,
    width,
    *,
    block="B(3,3)",
    num_classes=10,
    input_shape=(32, 32, 3),
    dropout=0.0,
    keep_prob=1.0,
    block_size=7,
    dropblock_groups=(2, 3),
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
        input_shape: shape of an image; height and width may be None.
        dropout: rate of Dropout between the convs of a block, in [0, 1). The
            paper uses 0.3 for CIFAR and 0.4 for SVHN.
        keep_prob: DropBlock's, in [0, 1]. 1.0 adds no DropBlock layer.
        block_size: DropBlock's, in units of the feature map, int >= 1.
        dropblock_groups: groups that have DropBlock, among 1, 2 and 3.
        weights: path of a `.weights.h5` file of this network, with or without
            DropBlock, or None.
        name: name of the model, or None for `wrn_depth_width`.

    Returns:
        A functional `keras.Model` from images, normalised with the training
        set's mean and standard deviation, to logits.

    Raises:
        ValueError: for a depth that the block does not fit, an unknown block
            or group, or an argument out of its range.

    Example:
        >>> model = WRN(28, 10, keep_prob=0.9)
        >>> model.count_params()
        36479206

    Reference:
        Zagoruyko and Komodakis 2016, "Wide Residual Networks",
        https://arxiv.org/abs/1605.07146, table 1. DropBlock's places and the
        quarter of the rate follow the code of Ghiasi et al. 2018; that paper
        has no Wide ResNet.
    """
    kernel_sizes = _parse_block(block)
    blocks = _blocks_per_group(depth, kernel_sizes)
    _check_int("width", width)
    _check_int("num_classes", num_classes)
    rates = _drop_rates(keep_prob, dropblock_groups)
    data_format = keras.config.image_data_format()

    inputs = keras.Input(input_shape, name="image")
    x = conv2d(16, 3, name="stem")(inputs)
    for group in GROUPS:
        for i in range(1, blocks + 1):
            x = PreActivationBlock(
                16 * width * 2 ** (group - 1),
                kernel_sizes,
                strides=2 if group > 1 and i == 1 else 1,
                dropout=dropout,
                keep_prob=1.0 - rates[group],
                block_size=block_size,
                name=f"group{group}_block{i}",
            )(x)
        x = keras.layers.Identity(name=f"group{group}")(x)
    x = batch_norm(data_format, name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    # U(-1/sqrt(fan_in), 1/sqrt(fan_in)), Torch's default for linear layers;
    # float32, so that the loss is exact under mixed precision.
    outputs = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform"
        ),
        dtype="float32",
        name="logits",
    )(x)
    model = keras.Model(inputs, outputs, name=name or f"wrn_{depth}_{width}")
    if weights is not None:
        model.load_weights(weights)
    return model


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
    _check_int("depth", depth)
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


def _drop_rates(keep_prob, dropblock_groups):
    """Drop rate of each group: in the last full, else a quarter of the next."""
    unknown = set(dropblock_groups) - set(GROUPS)
    if unknown:
        raise ValueError(
            f"`dropblock_groups` must be among {GROUPS}. Received: "
            f"dropblock_groups={tuple(dropblock_groups)}."
        )
    if not 0.0 <= keep_prob <= 1.0:
        raise ValueError(
            "`keep_prob` must be in [0, 1], the fraction of units to keep. "
            f"Received: keep_prob={keep_prob!r}."
        )
    return {
        group: (1.0 - keep_prob) / 4 ** (GROUPS[-1] - group)
        if group in dropblock_groups
        else 0.0
        for group in GROUPS
    }


def _check_int(argument, value):
    if (
        not isinstance(value, numbers.Integral)
        or isinstance(value, bool)
        or value < 1
    ):
        raise ValueError(
            f"`{argument}` must be an integer >= 1. "
            f"Received: {argument}={value!r}."
        )
