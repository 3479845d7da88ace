"""Highway networks for CIFAR, the predecessors of residual networks."""

import keras

from keras_dropblock.layers.highway import HighwayBlock, biased_conv
from keras_dropblock.models.groups import (
    check_int,
    classifier,
    image_input,
    residual_groups,
)
from keras_dropblock.models.network import builder


@builder
def HighwayNet(
    depth,
    width=1,
    *,
    gate_bias=-2.0,
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
    """Highway network for small images.

    A learned gate decides how much of its input a block copies. A residual
    network always copies all of it. The Wide ResNet paper quotes an error of
    7.72 % on CIFAR-10 and of 32.39 % on CIFAR-100.

    The network has a conv with `16 * width` channels; three groups of
    `n = (depth - 4) / 3` highway blocks with `16 * width`, `32 * width` and
    `64 * width` channels; global average pooling; and a dense layer. Groups 2
    and 3 start with a plain conv of stride 2.

    Deviations: the paper's networks follow those of Romero et al. 2015, whose
    channels are different. They halve the resolution by max pooling and end
    with a conv. `HighwayNet(19, 2)` has 2.0 M parameters; the paper's network
    of the same depth has 2.3 M.

    Args:
        depth: number of convs on the path of the transform, plus the dense
            layer: `3n + 4` (10, 19, 31). The gates do not count.
        width: factor of the channels, int >= 1.
        gate_bias: initial bias of the transform gates.
        dropout, spatial_dropout: must be 0, because a block has a single conv
            and so no place between convs.
        others: see `WRN`. The places of DropBlock are those of
            `layers.HighwayBlock`.

    Returns:
        A functional `keras.Model` from normalized images to logits.

    Raises:
        ValueError: for a depth that is not `3n + 4`, or an argument out of
            its range.

    Example:
        >>> model = HighwayNet(19, 2)

    Reference:
        Srivastava, Greff and Schmidhuber 2015,
        https://arxiv.org/abs/1505.00387; Zagoruyko and Komodakis 2016,
        https://arxiv.org/abs/1605.07146, table 5.
    """
    blocks = layout(depth, width)
    check_dropout(dropout, spatial_dropout)
    inputs = image_input(input_shape, 32)
    x = biased_conv(16 * width, name="stem")(inputs)
    x = keras.layers.ReLU(name="relu")(x)
    x = residual_groups(
        x,
        HighwayBlock,
        blocks,
        strides=(1, 2, 2),
        block_arguments=lambda group: {
            "filters": 16 * width * 2 ** (group - 1),
            "gate_bias": gate_bias,
            "block_size": block_size,
            "dropblock_skip": dropblock_skip,
        },
        keep_prob=keep_prob,
        dropblock_groups=dropblock_groups,
        survival_prob=survival_prob,
    )
    return classifier(
        inputs,
        x,
        num_classes,
        name=name or f"highway_{depth}_{width}",
        weights=weights,
        notation=f"HighwayNet-{depth}-{width}",
    )


def layout(depth, width=1):
    """Number of blocks in each group, plain ones included.

    Raises:
        ValueError: see `HighwayNet`.
    """
    check_int("depth", depth)
    check_int("width", width)
    blocks, rest = divmod(depth - 4, 3)
    if blocks < 1 or rest:
        below = 3 * max(blocks, 1) + 4
        raise ValueError(
            "`depth` must be 3n + 4 (10, 19, 31). Received: "
            f"depth={depth}. Did you mean {below} or {below + 3}?"
        )
    return [blocks, blocks + 1, blocks + 1]


def check_dropout(dropout, spatial_dropout):
    """Raise ValueError for dropout, which has no place in a block."""
    if dropout or spatial_dropout:
        raise ValueError(
            "`dropout` and `spatial_dropout` must be 0 in a highway network, "
            "whose blocks have a single conv. Received: "
            f"dropout={dropout}, spatial_dropout={spatial_dropout}. Use "
            "`keep_prob` or `survival_prob`."
        )
