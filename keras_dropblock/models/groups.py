"""What the builders share: the options of groups and blocks."""

import warnings

import keras

from keras_dropblock.layers import masks
from keras_dropblock.layers.dropblock import check_keep_prob
from keras_dropblock.layers.dropout import survival_probs
from keras_dropblock.models import cards
from keras_dropblock.models.weights import WeightsError, is_path, load


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
    """Stack blocks in groups, each with the regularisation of its place.

    Group g's output has the layer name `group{g}`, its i-th block
    `group{g}_block{i}`.

    Args:
        x: symbolic input of the first group.
        block: class of the blocks.
        blocks: number of blocks in each group.
        strides: stride of each group's first block.
        block_arguments: function from the group's number, from 1, to the
            arguments of its blocks that do not depend on the place.
        keep_prob: DropBlock's in the last group, in [0, 1]; each group before
            it drops at a quarter of the next one's rate.
        dropblock_groups: groups that have DropBlock, or None for the last two.
        survival_prob: stochastic depth's in the last block, in (0, 1].

    Returns:
        Symbolic output of the last group.

    Reference:
        The quarter: `dropblock_groups` of the DropBlock paper's code
        (tensorflow/tpu, models/official/resnet/resnet_main.py).
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
    """(height, width, channels) in the order of Keras's default data format."""
    height, width, channels = image_shape
    if keras.config.image_data_format() == "channels_last":
        return height, width, channels
    return channels, height, width


def image_input(input_shape, side):
    """Symbolic images, by default colored squares in the default data format.

    Args:
        input_shape: shape of an image, or None for the default.
        side: of the default, in pixels.

    Returns:
        `keras.Input` with the name `image`.
    """
    if input_shape is None:
        input_shape = in_data_format((side, side, 3))
    _warn_of_other_format(tuple(input_shape))
    return keras.Input(input_shape, name="image")


def _warn_of_other_format(shape):
    """As keras.applications do of images whose channels are a side."""
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
            stacklevel=4,  # who called the builder
        )


def drop_rates(keep_prob, dropblock_groups, last):
    """Drop rate of each group: in the last full, else a quarter of the next."""
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
    """A model with global average pooling and a dense layer on its last map.

    The kernel starts from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), Torch's default
    for linear layers. The logits are float32 under mixed precision too, so
    that the loss is exact. `weights`: see `WRN`; `notation` is the network's,
    by which published ones are found.
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
    model = keras.Model(inputs, logits, name=name)
    if weights is None:
        return model
    if is_path(weights):
        load(model, weights)
    else:
        _load_published(model, cards.of_network(weights, notation))
    return model


def _load_published(model, card):
    channels_last = keras.config.image_data_format() == "channels_last"
    channels = model.input.shape[-1 if channels_last else 1]
    for what, received, published in (
        ("classes", model.output.shape[-1], len(card.class_names)),
        ("channels", channels, card.image_shape[-1]),
    ):
        if received != published:
            raise WeightsError(
                f"The weights of {card.name} are for {published} {what}. "
                f"Received: {received}. To fine-tune them load the model as it "
                "is, and put a layer of your own on one of its features."
            )
    load(model, card.find_weights())
    model.card = card
