"""DropBlock masks as pure functions of tensors, for maps of any rank.

The position of a block is its first corner. On an axis of `size` units, a
block of `block` units may start at 0 ... size - block. This is the paper's
region of valid centers, shifted by half a block, and it works for odd and
even blocks. Seeds are therefore drawn on a map of `size - block + 1`
positions only, and each block lies entirely inside the feature map.

Reference:
    Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, algorithm 1 and
    equation 1.
"""

import math
import numbers

import keras
from keras import ops

from keras_dropblock.layers import draws

# Reached only if fewer than one unit in 32,768 is kept. In float16 a scale of
# 2^16 or more is inf, and inf * 0 is NaN. If no unit is kept, the scale
# would be 1 / 0 and the result NaN too.
MAX_SCALE = 2.0**15


def clamp_block(block_size, spatial_shape):
    """Side of the block on each axis: `block_size` or the map's size if less.

    Args:
        block_size: requested side of the block, in feature-map units, >= 1.
        spatial_shape: sizes of the map. Each is an int, or a scalar tensor
            if it is known only when the graph runs.

    Returns:
        A tuple with one side for each axis: an int where the size is an int.
    """
    return tuple(
        min(block_size, size)
        if isinstance(size, int)
        else ops.minimum(block_size, size)
        for size in spatial_shape
    )


def seed_rate(keep_prob, blocks, spatial_shape):
    """Probability that a block starts at a valid position (gamma).

    It is chosen so that about `1 - keep_prob` of the units are dropped. As in
    the paper, the formula ignores overlaps of blocks, so slightly fewer units
    are dropped.

    Args:
        keep_prob: fraction of units to keep, in [0, 1]; a float or a tensor.
        blocks: side of the block on each axis, from `clamp_block`. Clamping
            ensures that gamma does not exceed `1 - keep_prob`.
        spatial_shape: sizes of the map on the same axes.

    Returns:
        gamma, a float or float32 tensor in [0, 1].

    Reference:
        Ghiasi et al. 2018, equation 1. Its two squares are written here as
        products over the axes, which allows rectangular maps and other ranks.
    """
    gamma = 1.0 - keep_prob
    for block, size in zip(blocks, spatial_shape, strict=True):
        if not isinstance(size, int):
            block, size = ops.cast(block, "float32"), ops.cast(size, "float32")
        gamma = gamma * (size / (block * (size - block + 1)))
    return gamma


def grow_blocks(seeds, block_size, spatial_axes, spatial_shape):
    """Turn each seed into a block: a boolean OR of shifted copies.

    The width of the OR doubles in each step (1, 2, 4, ... units), so a side
    of 7 needs three ORs. Blocks lie entirely inside their map, so a shift of
    the flattened array never moves a block into the next row.

    Args:
        seeds: boolean tensor, True where a block starts. On each spatial
            axis of size F it has `F - min(block_size, F) + 1` positions.
        block_size: int, side of the block before clamping.
        spatial_axes: the axes to grow along.
        spatial_shape: sizes F of the map on those axes.

    Returns:
        Boolean tensor, True where a unit is dropped. An axis that one block
        covers entirely keeps size 1 and broadcasts against the map.
    """
    sides = {}
    for axis, size in zip(spatial_axes, spatial_shape, strict=True):
        # A size that is unknown here may turn out smaller than the block.
        # The axis then has one seed, and its block is larger than the map;
        # the slice at the end removes the excess.
        known = isinstance(size, int)
        if not known or 1 < block_size < size:
            sides[axis] = block_size
    if not sides:
        return seeds
    # Padding moves each seed to the last corner of its block. The block then
    # grows back to the first corner. The shifts shorten the flat array, so
    # axis 0 gets one extra row at the end.
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
        spatial_axes: the spatial axes of the map.
        keep_prob: fraction of units to keep, in [0, 1].
        block_size: side of a dropped block, int >= 1; clamped on each axis.
        seed_generator: `keras.random.SeedGenerator`.
        shared_axis: the axis along which all units share one mask, or None
            for a separate mask for each channel.

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
    # Small blocks need many seeds. The gaps between them are short, so drawing
    # the gaps would not be faster.
    large = block_size ** len(spatial_axes) > 8
    draw = draws.rare_bernoulli if large else draws.bernoulli
    seeds = draw(tuple(seed_shape), gamma, seed_generator)
    return grow_blocks(seeds, block_size, spatial_axes, spatial_shape)


def drop_and_rescale(inputs, dropped, axes=None):
    """Zero the dropped units and scale the others to preserve the sum.

    The kept units are divided by the fraction that is kept, which is counted
    in float32 over `axes`. If nothing is dropped, the scale is exactly 1. If
    everything is dropped, the result is zeros. The scale never exceeds
    `MAX_SCALE`.

    Args:
        inputs: floating point tensor.
        dropped: boolean tensor that broadcasts against `inputs`.
        axes: axes over which the kept units are counted. None counts over
            all axes, which gives one scale for the whole tensor as in the
            paper.

    Returns:
        Tensor with the shape and dtype of `inputs`.

    Reference:
        Ghiasi et al. 2018, algorithm 1, line 6: `A * count(M) / count_ones(M)`.
    """
    # The mean of the dropped units, not of the kept ones: if nothing is
    # dropped, 1 - 0 is exact for any number of units.
    dropped = ops.convert_to_tensor(dropped)
    fraction = 1.0 - _mean(dropped, axes)
    return _drop(inputs, dropped, 1.0 / ops.maximum(fraction, 1 / MAX_SCALE))


def _drop(inputs, dropped, scale):
    """Zero where dropped, `inputs * scale` elsewhere."""
    scale = ops.cast(scale, inputs.dtype)
    zero = ops.zeros_like(scale)
    if keras.backend.backend() != "tensorflow":
        # Keeps one byte per unit in memory for the backward pass.
        return ops.where(dropped, zero, inputs * scale)
    import tensorflow as tf

    # A select of two numbers and a product take less time on TensorFlow than
    # a product and a select of units, as the gradient is again one product.
    factors = ops.where(dropped, zero, scale)

    def multiply(x):
        # Zero where the factor is zero, even if x is inf or NaN.
        return tf.math.multiply_no_nan(x, factors)

    return ops.custom_gradient(lambda x: (multiply(x), multiply))(inputs)


def _mean(booleans, axes):
    """The fraction of True in float32, over all axes or over the given ones."""
    backend = keras.backend.backend()
    if backend == "tensorflow" and axes is None and draws.on_cpu(booleans):
        return _mean_of_bytes(booleans)
    if backend == "torch":
        import torch

        booleans = booleans.view(torch.uint8)  # casts three times faster
    ones = ops.cast(booleans, "float32")
    return ops.mean(ones, axis=axes, keepdims=axes is not None)


def _mean_of_bytes(booleans):
    """The fraction of True, in about half the time on TensorFlow's CPUs.

    A sum of 128 integers of 32 bits adds four columns of bytes at once. A
    byte of the sum is at most 128, so it never carries into the next byte.
    """
    import tensorflow as tf

    ones = tf.reshape(tf.cast(booleans, tf.uint8), (-1,))
    whole = tf.size(ones) // 512 * 512
    rows = tf.bitcast(tf.reshape(ones[:whole], (-1, 128, 4)), tf.int32)
    sums = tf.bitcast(tf.reduce_sum(rows, axis=1), tf.uint8)
    parts = [
        tf.reduce_sum(tf.cast(part, tf.float32))
        for part in (sums, ones[whole:])
    ]
    return (parts[0] + parts[1]) / tf.cast(tf.size(ones), tf.float32)


def drop_alike(inputs, rate, shape, seed_generator):
    """Drop by independent draws and scale the rest by `1 / (1 - rate)`.

    A rate of 1 gives zeros, as in Keras.

    Args:
        inputs: floating point tensor.
        rate: probability that a draw drops, in [0, 1].
        shape: shape of the draws. Along an axis with size 1, all units of
            `inputs` share one draw.
        seed_generator: `keras.random.SeedGenerator`.

    Returns:
        Tensor with the shape and dtype of `inputs`.
    """
    if rate == 1:
        return ops.zeros_like(inputs)
    dropped = draws.bernoulli(tuple(shape), rate, seed_generator)
    return _drop(inputs, dropped, 1.0 / (1.0 - rate))


def is_number(value):
    """Whether a value is a real number. True and False do not count as such."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_positive_int(value):
    """Whether a value is an integer >= 1. True does not count as such."""
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and value >= 1
    )
