"""Random booleans: where masks come from, on every backend.

On TensorFlow they are not drawn by `keras.random`, for three reasons. Under
`tf.distribute` a SeedGenerator has the same state on every replica, and all
replicas would drop the same units: the replica's number is folded into the
seed. XLA compiles TensorFlow's default generator for CPUs to something far
slower than Philox. And Philox gives the same bits, though not the same
floats, with and without XLA: a seed has the same masks in every mode.
"""

import functools
import math

import keras
from keras import ops


def bernoulli(shape, probability, seed_generator):
    """Booleans, True with `probability`; new ones on each call and replica.

    Args:
        shape: shape of the result; sizes may be scalar tensors on TensorFlow.
        probability: float or float32 scalar tensor in [0, 1]. On TensorFlow
            probability 1 is True all but once in 2^24 times.
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
    """As `bernoulli`, at a cost that falls with the probability.

    Between two Trues lies a geometric number of Falses, so to draw these gaps
    is to draw every position. On accelerators, which draw every position
    faster than they scatter, this is `bernoulli`.

    Args and returns are those of `bernoulli`.
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
    """`count` booleans, True with `probability`.

    Gaps come in chunks of a fixed number, until one chunk passes the end. A
    mask's usual rates, below one in 128, need one chunk.
    """
    # TensorFlow and XLA differ in the last bit of a logarithm; in float64
    # that moves a mark once in 10^12 draws. JAX has no float64 by default.
    precision = "float32" if keras.backend.backend() == "jax" else "float64"
    chunk = count // 128 + 1024
    # The sum of a chunk fits into int32 whatever is drawn. A longer gap is cut
    # and no mark set: what is left of a geometric gap is geometric again.
    longest = (2**31 - 1 - count) // chunk
    log_false = ops.log1p(-ops.cast(probability, precision))

    def mark_chunk(i, last):
        uniform = (ops.cast(_bits(seed, i, chunk), precision) + 0.5) * 2.0**-32
        gaps = ops.log(uniform) / log_false
        whole = gaps < ops.cast(longest, precision)
        gaps = ops.cast(ops.where(whole, gaps, 0), "int32")
        last = last + ops.cumsum(ops.where(whole, gaps + 1, longest))
        marked = ops.logical_and(whole, last < count)
        # Position `count` takes what is no mark.
        return last[-1], _marks(count + 1, ops.where(marked, last, count))

    def unfinished(i, last, marks):
        return last < count

    def mark_more(i, last, marks):
        last, more = mark_chunk(i, last)
        return i + 1, last, ops.logical_or(marks, more)

    start = (ops.ones((), "int32"), *mark_chunk(0, -1))
    return ops.while_loop(unfinished, mark_more, start)[2][:count]


def _marks(count, positions):
    """`count` booleans, True at positions that ascend and may repeat."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Four times as fast as its scatter.
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
    """Else JAX compiles a loop outside `jax.jit` anew each time."""
    import jax

    return jax.jit(function, static_argnums=0)


def on_cpu(tensor):
    """Whether a tensor's computations run on a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices()
        return all(device.device_type == "CPU" for device in devices)
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return tensor.device.type == "cpu"  # on torch, where it may be "meta"


# Odd, so that they spread small numbers over all of int32, and 0 stays 0:
# 2^32 over the golden ratio and over the plastic number.
_SPREAD_REPLICAS, _SPREAD_CHUNKS = -1640531527, -1052792407


def _seed(seed_generator):
    """The two integers of the next call; on each replica others."""
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
    """The i-th `count` random integers in [0, 2^32) of a seed."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _philox((count,), _fold(seed, i, _SPREAD_CHUNKS))
    if backend == "jax":
        import jax

        return jax.random.bits(jax.random.fold_in(seed, i), (count,))
    import torch

    seed, call = seed.tolist()
    seed = seed * _SPREAD_REPLICAS ^ call ^ int(i) * _SPREAD_CHUNKS
    # The generator for CPUs takes 32 bits.
    generator = torch.Generator().manual_seed(seed % 2**32)
    return torch.randint(2**32, (count,), generator=generator)


def _philox(shape, seed):
    import tensorflow as tf

    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
