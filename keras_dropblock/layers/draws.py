"""Random booleans for the masks, on every backend.

On TensorFlow this module does not use `keras.random`, for three reasons:

- Under `tf.distribute`, a SeedGenerator has the same state on every replica,
  so all replicas would drop the same units. Here the replica id is folded
  into the seed.
- On CPUs, XLA compiles TensorFlow's default generator to code that is about
  100 times slower than Philox.
- Philox gives the same bits with and without XLA (the floats differ), so a
  seed gives the same masks in graph mode and with `jit_compile=True`.
"""

import functools
import math

import keras
from keras import ops


def bernoulli(shape, probability, seed_generator):
    """Draw booleans that are True with the given probability.

    Each call and each replica draws new ones.

    Args:
        shape: shape of the result. On TensorFlow, sizes may be scalar
            tensors.
        probability: float or float32 scalar tensor in [0, 1]. On TensorFlow,
            a probability of 1 still gives False once in 2^24 draws.
        seed_generator: `keras.random.SeedGenerator`.

    Returns:
        Boolean tensor.
    """
    if keras.backend.backend() != "tensorflow":
        draws = keras.random.uniform(
            shape, dtype="float32", seed=seed_generator
        )
        return draws < probability
    import tensorflow as tf

    bits = _philox(shape, _seed(seed_generator))
    # 2^32 - 256 is the largest float32 below 2^32.
    threshold = tf.minimum(probability * 2.0**32, 2.0**32 - 256.0)
    return bits < tf.cast(threshold, tf.uint32)


def rare_bernoulli(shape, probability, seed_generator):
    """Draw booleans like `bernoulli`, faster when few of them are True.

    The number of Falses between two Trues has a geometric distribution.
    Drawing these gaps gives the same distribution as drawing every position,
    with fewer random numbers. A training step of a small network becomes a
    few percent faster. On accelerators this calls `bernoulli`, because
    there drawing every position is faster than a scatter.

    Arguments and result are the same as for `bernoulli`.
    """
    probability = ops.convert_to_tensor(probability, "float32")
    if not on_cpu(probability):
        return bernoulli(shape, probability, seed_generator)
    mark = _mark_by_gaps
    if keras.backend.backend() == "jax":
        mark = _compiled_for_jax(mark)
    marks = mark(math.prod(shape), probability, _seed(seed_generator))
    return ops.reshape(marks, shape)


def _mark_by_gaps(count, probability, seed):
    """Draw `count` booleans by drawing the gaps between those that are True.

    Gaps are drawn in chunks of fixed size until they reach the end. One chunk
    is enough for probabilities below 1/128, which are usual for masks, and
    for up to 2,000 marks, as in maps that are little larger than a block.
    """
    # TensorFlow and XLA round the last bit of a logarithm differently. In
    # float64 this changes a result once in 10^12 draws. By default, JAX has
    # no float64.
    precision = "float32" if keras.backend.backend() == "jax" else "float64"
    chunk = count // 128 + 2048
    # Gaps are cut at `longest`, so that the sum of a chunk always fits into
    # int32. No mark is set after a gap that was cut: the geometric
    # distribution has no memory, so the rest of the gap is drawn as a new one.
    longest = (2**31 - 1 - count) // chunk
    log_false = ops.log1p(-ops.cast(probability, precision))

    def mark_chunk(i, last):
        uniform = (ops.cast(_bits(seed, i, chunk), precision) + 0.5) * 2.0**-32
        gaps = ops.log(uniform) / log_false
        whole = gaps < ops.cast(longest, precision)
        gaps = ops.cast(ops.where(whole, gaps, 0), "int32")
        last = last + ops.cumsum(ops.where(whole, gaps + 1, longest))
        marked = ops.logical_and(whole, last < count)
        # Positions that must not be marked go to index `count`, which is cut
        # off at the end.
        return last[-1], _marks(count + 1, ops.where(marked, last, count))

    def unfinished(i, last, marks):
        return last < count

    def mark_more(i, last, marks):
        last, more = mark_chunk(i, last)
        return i + 1, last, ops.logical_or(marks, more)

    start = (ops.ones((), "int32"), *mark_chunk(0, -1))
    return ops.while_loop(unfinished, mark_more, start)[2][:count]


def _marks(count, positions):
    """`count` booleans, True at `positions` (sorted, may repeat)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Four times as fast as TensorFlow's scatter.
        return tf.raw_ops.SparseToDense(
            sparse_indices=positions,
            output_shape=[count],
            sparse_values=True,
            default_value=False,
            validate_indices=False,
        )
    return ops.scatter_update(
        ops.zeros((count,), "bool"),
        positions[:, None],
        ops.ones((len(positions),), "bool"),
    )


@functools.cache
def _compiled_for_jax(function):
    """Compile for JAX, which otherwise recompiles a loop on each eager call."""
    import jax

    return jax.jit(function, static_argnums=0)


def on_cpu(tensor):
    """Whether operations on a tensor run on a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices()
        return all(device.device_type == "CPU" for device in devices)
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return tensor.device.type == "cpu"  # on torch, where it may be "meta"


# Odd multipliers spread small integers over the whole range of int32 and map
# 0 to 0. They are 2^32 divided by the golden ratio and by the plastic number.
_SPREAD_REPLICAS, _SPREAD_CHUNKS = -1640531527, -1052792407


def _seed(seed_generator):
    """The seed of the next call: two integers, different on each replica."""
    seed = seed_generator.next()
    if keras.backend.backend() != "tensorflow":
        return seed
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    return _fold(tf.cast(seed, tf.int32), replica, _SPREAD_REPLICAS)


def _fold(seed, number, spread):
    import tensorflow as tf

    number = tf.stack([tf.cast(number, tf.int32) * spread, 0])
    return tf.bitwise.bitwise_xor(seed, number)


def _bits(seed, i, count):
    """Chunk `i` of a seed's random integers: `count` values in [0, 2^32)."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _philox((count,), _fold(seed, i, _SPREAD_CHUNKS))
    if backend == "jax":
        import jax

        return jax.random.bits(jax.random.fold_in(seed, i), (count,))
    import torch

    seed, call = seed.tolist()
    seed = seed * _SPREAD_REPLICAS ^ call ^ int(i) * _SPREAD_CHUNKS
    # torch's CPU generator uses 32 bits of the seed.
    generator = torch.Generator().manual_seed(seed % 2**32)
    return torch.randint(2**32, (count,), generator=generator)


def _philox(shape, seed):
    import tensorflow as tf

    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
