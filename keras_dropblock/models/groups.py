"""Parts that all builders share: input, groups of blocks and classifier."""

import warnings

import keras

from keras_dropblock.layers import masks
from keras_dropblock.layers.dropblock import check_keep_prob
from keras_dropblock.layers.dropout import survival_probs
from keras_dropblock.models.network import Network, hub


def residual_groups(
    x,
    block,
    blocks,
    *,
    strides,
    block_arguments,
    keep_prob,
    dropblock_groups,
    survival_prob,
):
    """Stack blocks in groups, and set the regularization of each block.

    The output of group g is a layer with the name `group{g}`. Its i-th block
    has the name `group{g}_block{i}`. Both numbers start at 1.

    Args:
        x: symbolic input of the first group.
        block: class of the blocks.
        blocks: number of blocks in each group.
        strides: stride of the first block of each group.
        block_arguments: function from the number of a group, from 1, to the
            arguments that all of its blocks share.
        keep_prob: keep_prob of DropBlock in the last group, in [0, 1]. Each
            earlier group has a quarter of the drop rate of the next one.
        dropblock_groups: groups that have DropBlock, or None for the last two.
        survival_prob: survival probability of the last block under stochastic
            depth, in (0, 1]; it falls linearly with depth.

    Returns:
        Symbolic output of the last group.

    Reference:
        The factor of a quarter is from `dropblock_groups` in the DropBlock
        paper's code (tensorflow/tpu, models/official/resnet/resnet_main.py).
    """
    last = len(blocks)
    rates = drop_rates(keep_prob, dropblock_groups, last)
    survival = iter(survival_probs(survival_prob, sum(blocks)))
    for group in range(1, last + 1):
        for i in range(1, blocks[group - 1] + 1):
            x = block(
                strides=strides[group - 1] if i == 1 else 1,
                keep_prob=1.0 - rates[group],
                survival_prob=next(survival),
                name=f"group{group}_block{i}",
                **block_arguments(group),
            )(x)
        x = keras.layers.Identity(name=f"group{group}")(x)
    return x


def in_data_format(image_shape):
    """Convert (height, width, channels) to Keras's default data format."""
    height, width, channels = image_shape
    if keras.config.image_data_format() == "channels_last":
        return height, width, channels
    return channels, height, width


def image_input(input_shape, side):
    """Create the input of a network.

    Args:
        input_shape: shape of an image in Keras's default data format, or None
            for a square with 3 channels.
        side: side of that square, in pixels.

    Returns:
        `keras.Input` with the name `image`.
    """
    if input_shape is None:
        input_shape = in_data_format((side, side, 3))
    _warn_of_other_format(tuple(input_shape))
    return keras.Input(input_shape, name="image")


def _warn_of_other_format(shape):
    """Warn if the axes look swapped, as `keras.applications` does."""
    data_format = keras.config.image_data_format()
    if data_format == "channels_last":
        channels, other, likely = shape[-1], shape[0], (*shape[1:], shape[0])
    else:
        channels, other, likely = shape[0], shape[-1], (shape[-1], *shape[:-1])
    usual = (1, 3, 4)
    if channels not in usual and other in usual:
        warnings.warn(
            f"`input_shape` is read as {channels} channels, because the "
            f"default data format is {data_format}. Received: input_shape="
            f"{shape}. Did you mean {likely}?",
            stacklevel=5,  # the caller of the builder
        )


def drop_rates(keep_prob, dropblock_groups, last):
    """Drop rate of each group: the last has the full rate.

    Each earlier group has a quarter of the rate of the next one. The rate is
    0 in groups that are not among `dropblock_groups`.

    Args:
        keep_prob: see `residual_groups`.
        dropblock_groups: see `residual_groups`.
        last: number of the last group.

    Returns:
        Dict from the number of each group to its drop rate.

    Raises:
        ValueError: for unknown groups, or a `keep_prob` outside [0, 1].
    """
    groups = range(1, last + 1)
    if dropblock_groups is None:
        dropblock_groups = (last - 1, last)
    if not isinstance(dropblock_groups, list | tuple) or set(
        dropblock_groups
    ) - set(groups):
        raise ValueError(
            "`dropblock_groups` must be a tuple of some of "
            f"{tuple(groups)}. Received: "
            f"dropblock_groups={dropblock_groups!r}."
        )
    drop_rate = 1.0 - check_keep_prob(keep_prob)
    return {
        group: drop_rate / 4 ** (last - group)
        if group in dropblock_groups
        else 0.0
        for group in groups
    }


def check_int(argument, value):
    if not masks.is_positive_int(value):
        raise ValueError(
            f"`{argument}` must be an integer >= 1. "
            f"Received: {argument}={value!r}."
        )


def classifier(inputs, x, num_classes, *, name, weights, notation):
    """Add global average pooling and a dense layer, and build the model.

    The kernel is initialized from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), Torch's
    default for linear layers. With mixed precision, the logits are still
    float32, so that the loss is precise.

    Args:
        inputs: symbolic input of the network.
        x: symbolic output of the last group.
        num_classes: number of logits, int >= 1.
        name: name of the model.
        weights: see `WRN`.
        notation: name of the network, such as `WRN-28-10`, which is used to
            find published weights.

    Returns:
        `Network`.
    """
    check_int("num_classes", num_classes)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform"
        ),
        dtype=keras.backend.result_type(
            "float32", keras.config.dtype_policy().variable_dtype
        ),
        name="logits",
    )(x)
    model = Network(inputs, logits, name=name)
    if weights is not None:
        hub().load_weights(model, weights, notation)
    return model
