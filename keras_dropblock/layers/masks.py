"""Masks as pure functions of tensors: DropBlock's, for maps of any rank.

A block is placed by its first corner: on an axis of `size` units a block of
`block` units may start at 0 ... size - block, which is the paper's region of
valid centres shifted by half a block, for odd and even blocks alike. Seeds are
therefore drawn on a map of `size - block + 1` positions only, and no block
ever leaves the feature map.

Reference:
    Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, algorithm 1 and
    equation 1.
"""

import functools
import math
import numbers

import keras
from keras import ops

from keras_dropblock.layers import draws

# Reached only where fewer than one unit in 32,768 stays. Larger scales become
# inf in float16, and inf * 0 NaN; without a bound, so would 1 / 0.
MAX_SCALE = 2.0**15


def clamp_block(block_size, spatial_shape):
    """Sides of the block on each axis: `block_size`, or the map if smaller.

    Args:
        block_size: wanted side of the block, in feature-map units, >= 1.
        spatial_shape: sizes of the map; ints, or scalar tensors where they
            are known only when the graph runs.

    Returns:
        A tuple with one side for each axis, int where the size is an int.
    """
    return tuple(
        min(block_size, size)
        if isinstance(size, int)
        else ops.minimum(block_size, size)
        for size in spatial_shape
    )


def seed_rate(keep_prob, blocks, spatial_shape):
    """Probability that a block starts at a valid position (gamma).

    Chosen so that about `1 - keep_prob` of the units vanish. Overlaps of
    blocks are ignored, as in the paper, so slightly fewer do.

    Args:
        keep_prob: fraction of units to keep, in [0, 1]; a float or a tensor.
        blocks: sides of the block on each axis, from `clamp_block`. With
            clamped sides gamma never exceeds `1 - keep_prob`.
        spatial_shape: sizes of the map on the same axes.

    Returns:
        gamma, a float or float32 tensor in [0, 1].

    Reference:
        Ghiasi et al. 2018, eq. 1, with the two squares written as products
        over the axes, which allows rectangular maps and other ranks.
    """
    gamma = 1.0 - keep_prob
    for block, size in zip(blocks, spatial_shape, strict=True):
        if not isinstance(size, int):
            block, size = ops.cast(block, "float32"), ops.cast(size, "float32")
        gamma = gamma * (size / (block * (size - block + 1)))
    return gamma


def grow_blocks(seeds, block_size, spatial_axes, spatial_shape):
    """Turn each seed into a block: a boolean OR of shifted copies.

    Windows double (1, 2, 4, ... units), so a side of 7 costs three ORs. A
    block never leaves its map, so that all copies are shifts of one flat
    array: no row runs into the next.

    Args:
        seeds: boolean tensor, True where a block starts. On each spatial
            axis of size F it has `F - min(block_size, F) + 1` positions.
        block_size: int, side of the block before clamping.
        spatial_axes: the axes to grow along.
        spatial_shape: sizes F of the map on those axes.

    Returns:
        Boolean tensor, True where a unit is dropped. An axis that one block
        covers entirely keeps its size of 1: it broadcasts against the map.
    """
    sides = {}
    for axis, size in zip(spatial_axes, spatial_shape, strict=True):
        # Where an unknown size turns out smaller than the block there is one
        # seed, and its block overshoots: the map is cut out at the end.
        known = isinstance(size, int)
        if not known or 1 < block_size < size:
            sides[axis] = block_size
    if not sides:
        return seeds
    # A seed goes to the last corner of its block, and grows back to the
    # first. Shifts leave over what lies behind the last unit: a row more.
    pads = [(sides.get(axis, 1) - 1, 0) for axis in range(len(seeds.shape))]
    pads[0] = (pads[0][0], pads[0][0] + 1)
    shape = [
        size + before
        for size, (before, _) in zip(ops.shape(seeds), pads, strict=True)
    ]
    dropped = ops.reshape(ops.pad(seeds, pads), (-1,))
    for axis, block in sides.items():
        stride = math.prod(shape[axis + 1 :])
        window = 1
        while window < block:
            shift = min(window, block - window)
            dropped = ops.logical_or(
                dropped[shift * stride :], dropped[: -shift * stride]
            )
            window += shift
    dropped = ops.reshape(dropped[: math.prod(shape)], shape)
    sizes = dict(zip(spatial_axes, spatial_shape, strict=True))
    return dropped[
        tuple(
            slice(sizes[axis] if axis in sides else None)
            for axis in range(len(shape))
        )
    ]


def dropped_units(
    shape, spatial_axes, keep_prob, block_size, seed_generator, shared_axis
):
    """Draw which units DropBlock drops.

    Args:
        shape: shape of the feature map, as `keras.ops.shape` gives it.
        spatial_axes: its spatial axes.
        keep_prob: fraction of units to keep, in [0, 1].
        block_size: side of a dropped block, int >= 1; clamped on each axis.
        seed_generator: `keras.random.SeedGenerator`.
        shared_axis: the axis along which one mask is shared, or None: every
            channel has a mask of its own.

    Returns:
        Boolean tensor that broadcasts against `shape`, True where dropped.
        Samples are independent of each other.
    """
    spatial_shape = tuple(shape[axis] for axis in spatial_axes)
    blocks = clamp_block(block_size, spatial_shape)
    seed_shape = list(shape)
    for axis, size, block in zip(
        spatial_axes, spatial_shape, blocks, strict=True
    ):
        seed_shape[axis] = size - block + 1
    if shared_axis is not None:
        seed_shape[shared_axis] = 1
    gamma = seed_rate(keep_prob, blocks, spatial_shape)
    # Small blocks need many seeds, which have no gaps worth drawing.
    large = block_size ** len(spatial_axes) > 8
    draw = draws.rare_bernoulli if large else draws.bernoulli
    seeds = draw(tuple(seed_shape), gamma, seed_generator)
    return grow_blocks(seeds, block_size, spatial_axes, spatial_shape)


def drop_and_rescale(inputs, dropped, axes=None):
    """Zero the dropped units and scale the rest so that the sum is preserved.

    The units that stay are divided by the fraction that stays, counted in
    float32 over `axes`. When nothing is dropped the scale is exactly 1; when
    everything is, the result is zeros. The scale never exceeds `MAX_SCALE`.

    Args:
        inputs: floating point tensor.
        dropped: boolean tensor that broadcasts against it.
        axes: axes over which the kept units are counted; None: all of them,
            one scale for the whole tensor, as in the paper.

    Returns:
        Tensor of the shape and dtype of `inputs`.

    Reference:
        Ghiasi et al. 2018, algorithm 1, line 6: `A * count(M) / count_ones(M)`.
    """
    # Counting what is dropped, not what is kept: 1 - 0 is exact however many
    # units there are.
    dropped = ops.convert_to_tensor(dropped)
    ones = ops.cast(_castable(dropped), "float32")
    fraction = 1.0 - ops.mean(ones, axis=axes, keepdims=axes is not None)
    return _drop(inputs, dropped, 1.0 / ops.maximum(fraction, 1 / MAX_SCALE))


def _drop(inputs, dropped, scale):
    """Zeros where dropped, else `inputs * scale`.

    A select, because what waits for the backward pass is then one byte a unit.
    A product needs a float mask, which TensorFlow moreover makes early.
    """
    scale = ops.cast(scale, inputs.dtype)
    if keras.backend.backend() == "torch":
        return _select_on_torch()(inputs, dropped, scale)

    def select(x):
        return ops.where(dropped, ops.zeros_like(scale), x * scale)

    if keras.backend.backend() == "jax":
        return select(inputs)
    # The gradient is the same map; TensorFlow's own takes longer.
    return ops.custom_gradient(lambda x: (select(x), select))(inputs)


@functools.cache
def _select_on_torch():
    """The select of `_drop`; on CPUs it takes less time than `torch.where`."""
    import torch

    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}

    class Select(torch.autograd.Function):
        @staticmethod
        def forward(x, dropped, scale):
            y = x * scale
            # A product of integers: 0 * inf would be NaN. In place: a new
            # tensor costs as much as the product.
            bits = y.view(integers[y.element_size()])
            bits.mul_(_castable(~dropped).to(bits.dtype))
            return y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[1:])

        @staticmethod
        def backward(ctx, upstream):
            return Select.apply(upstream, *ctx.saved_tensors), None, None

    return Select.apply


def _castable(booleans):
    """What casts to numbers as booleans do; on torch thrice as fast."""
    if keras.backend.backend() != "torch":
        return booleans
    import torch

    return booleans.view(torch.uint8)


def drop_alike(inputs, rate, shape, seed_generator):
    """Drop by independent draws and scale the rest by `1 / (1 - rate)`.

    A rate of 1 gives zeros, as in Keras.

    Args:
        inputs: floating point tensor.
        rate: probability that a draw drops, in [0, 1].
        shape: shape of the draws; where it has a 1 that `inputs` has not,
            those units share one.
        seed_generator: `keras.random.SeedGenerator`.

    Returns:
        Tensor of the shape and dtype of `inputs`.
    """
    if rate == 1:
        return ops.zeros_like(inputs)
    dropped = draws.bernoulli(tuple(shape), rate, seed_generator)
    return _drop(inputs, dropped, 1.0 / (1.0 - rate))


def is_number(value):
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_positive_int(value):
    """Whether a value is a whole number >= 1; True is none."""
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and value >= 1
    )
