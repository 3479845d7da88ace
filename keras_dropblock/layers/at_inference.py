"""Dropping left on outside training: robustness, and Monte Carlo."""

import contextlib

from keras_dropblock.layers import overrides
from keras_dropblock.layers.dropblock import (
    DropBlock,
    check_block_size,
    check_keep_prob,
)
from keras_dropblock.layers.dropout import Dropout, SpatialDropout2D


def dropblock_layers(model):
    """All DropBlock layers of a model or layer, at any depth, in order."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, DropBlock)
    ]


@contextlib.contextmanager
def dropblock_at_inference(model, keep_prob, block_size=None):
    """Leave DropBlock on outside training: a context for one experiment.

    Layers keep the ratio of their drop rates: the one that drops most gets
    `keep_prob`, one built for a quarter of its rate drops a quarter. To test
    a network that was trained without DropBlock, load its weights into the
    same network built with it.

    Contexts may be nested: the innermost one that has a layer decides for it.
    Every live model that contains one of the layers follows, compiled or not,
    be it inside of `model` or around it. Only a `tf.function` or `jax.jit` of
    your own is beyond reach: it keeps what held when it was traced.

    Args:
        model: a model with DropBlock layers.
        keep_prob: fraction of units to keep at inference, in [0, 1].
        block_size: side of a dropped block, int >= 1, or None for each
            layer's own.

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
def dropping_as_trained(model):
    """Leave DropBlock and dropout on outside training: for Monte Carlo.

    Each layer drops at the rate it was built for, with batch statistics as at
    inference. Stochastic depth stays off. What `dropblock_at_inference` says
    of nested contexts and compiled models holds here.

    Args:
        model: a model with DropBlock, Dropout or SpatialDropout2D of this
            package, at least one of them with a rate above 0.

    Raises:
        ValueError: if it has none.

    Reference:
        Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142, section 4.
    """
    blocks = [x for x in dropblock_layers(model) if x.final_keep_prob < 1.0]
    dropouts = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, Dropout | SpatialDropout2D) and layer.rate
    ]
    if not blocks and not dropouts:
        raise ValueError(
            "`model` has no DropBlock, Dropout or SpatialDropout2D of this "
            f"package that drops anything. Received: model={model.name!r}."
        )
    settings = {x: (x.final_keep_prob, x.block_size) for x in blocks}
    with overrides.override(settings | dict.fromkeys(dropouts, True)):
        yield
