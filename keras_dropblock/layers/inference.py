"""DropBlock and dropout at inference: robustness tests and Monte Carlo."""

import contextlib

from keras_dropblock.layers import overrides
from keras_dropblock.layers.dropblock import (
    DropBlock,
    check_block_size,
    check_keep_prob,
)
from keras_dropblock.layers.dropout import (
    Dropout,
    SpatialDropout2D,
    StochasticDepth,
)
from keras_dropblock.layers.highway import HighwayBlock
from keras_dropblock.layers.residual import (
    PostActivationBlock,
    PreActivationBlock,
)


def dropblock_layers(model):
    """All DropBlock layers of a model or layer, nested ones included."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, DropBlock)
    ]


@contextlib.contextmanager
def dropblock_at_inference(model, keep_prob, block_size=None):
    """A context in which DropBlock also drops at inference.

    Drop rates keep their ratios. The layer with the highest drop rate gets
    `keep_prob`. A layer built with a quarter of that rate drops at a quarter
    of the new rate. To test a network that was trained without DropBlock,
    build the same network with DropBlock and load the weights.

    Contexts may be nested. If several of them set the same layer, the
    innermost one applies. The setting affects every existing model that
    contains one of the layers: `model`, its submodels, and models around it,
    compiled or not. It does not affect a `tf.function` or `jax.jit` that you
    made yourself: such a function keeps the setting of the time when it was
    traced.

    Args:
        model: a model with DropBlock layers.
        keep_prob: fraction of units to keep at inference, in [0, 1].
        block_size: side of a dropped block, int >= 1. None keeps the block
            size of each layer.

    Raises:
        ValueError: if the model has no DropBlock layer, or an argument is out
            of its range.

    Example:
        >>> with dropblock_at_inference(model, keep_prob=0.7, block_size=1):
        ...     model.evaluate(x_test, y_test)

    Reference:
        Ghiasi et al. 2018, section 4.1.3 and figure 5.
    """
    layers = dropblock_layers(model)
    if not layers:
        raise ValueError(
            "`model` has no DropBlock layer to leave on. Build the same "
            "network with keep_prob < 1 and load the weights into it. "
            f"Received: model={model.name!r}."
        )
    drop_rate = 1.0 - check_keep_prob(keep_prob)
    if block_size is not None:
        block_size = check_block_size(block_size)
    most = max(1.0 - layer.final_keep_prob for layer in layers)
    settings = {}
    for layer in layers:
        share = (1.0 - layer.final_keep_prob) / most if most else 1.0
        settings[layer] = (
            1.0 - drop_rate * share,
            block_size or layer.block_size,
        )
    with overrides.override(settings):
        yield


@contextlib.contextmanager
def dropping_as_trained(model, *, stochastic_depth=False):
    """A context in which DropBlock and dropout also drop at inference.

    It is meant for Monte Carlo dropout. Each layer drops at the rate it was
    built with. Batch normalization uses its moving statistics. Nested contexts
    and compiled models behave as described in `dropblock_at_inference`.

    Args:
        model: a model with DropBlock, Dropout or SpatialDropout2D layers of
            this package, at least one of them with a drop rate above 0.
        stochastic_depth: whether StochasticDepth layers drop too. They count
            as layers that drop only if this is True.

    Raises:
        ValueError: if the model has no such layer.

    Reference:
        Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142, section 4.
    """
    blocks = [x for x in dropblock_layers(model) if x.final_keep_prob < 1.0]
    dropouts = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, Dropout | SpatialDropout2D)
        and layer.rate
        or stochastic_depth
        and isinstance(layer, StochasticDepth)
        and layer.survival_prob < 1.0
    ]
    if not blocks and not dropouts:
        kinds = "DropBlock, Dropout or SpatialDropout2D"
        if stochastic_depth:
            kinds = "DropBlock, Dropout, SpatialDropout2D or StochasticDepth"
        raise ValueError(
            f"`model` has no {kinds} of this package that drops anything. "
            f"Received: model={model.name!r}."
        )
    settings = {x: (x.final_keep_prob, x.block_size) for x in blocks}
    with overrides.override(settings | dict.fromkeys(dropouts, True)):
        yield


def residual_blocks(model):
    """All residual blocks of a model, nested ones included, in order.

    Highway blocks are included if they have a transform gate. Those without
    one are plain layers.
    """
    return [layer for layer in model._flatten_layers() if _has_shortcut(layer)]


def _has_shortcut(layer):
    if isinstance(layer, HighwayBlock):
        return layer.gate is not None
    return isinstance(layer, PreActivationBlock | PostActivationBlock)


def branches_removed(blocks):
    """A context in which residual blocks return only their shortcuts.

    The output of a residual branch is replaced by zeros, also in training. The
    transform gates of a highway block are replaced by zeros, so it returns its
    input. Nested contexts and compiled models behave as described in
    `dropblock_at_inference`.

    Args:
        blocks: list of blocks: see `residual_blocks`.

    Raises:
        ValueError: for a layer that has no shortcut.

    Example:
        >>> with branches_removed([model.get_layer("group2_block1")]):
        ...     model.evaluate(x_test, y_test)
    """
    blocks = list(blocks)
    for block in blocks:
        if not _has_shortcut(block):
            raise ValueError(
                "`blocks` must be residual blocks of this package, or highway "
                "blocks with a transform gate. Without its branch, another "
                "layer would return nothing: it has no shortcut. Received: "
                f"{type(block).__name__} {block.name}."
            )
    return overrides.override(dict.fromkeys(blocks, True))
