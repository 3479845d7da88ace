"""Distribute a model over devices: the key `strategy` of a recipe."""

import contextlib

import keras

from keras_dropblock.errors import RecipeError
from keras_dropblock.training import processes


def check(recipe):
    """Raise `RecipeError` if the strategy cannot run this recipe."""
    if recipe.strategy == "mirrored":
        _check_mirrored(recipe)
    elif recipe.synchronized_norms:
        raise RecipeError(
            "`synchronized_norms` needs `strategy` mirrored: the other "
            "strategies always use the statistics of the whole batch. "
            f"Received: strategy={recipe.strategy}."
        )
    if recipe.strategy == "data_parallel":
        _check_data_parallel(recipe)
    elif processes.count() > 1:
        raise RecipeError(
            "`strategy` must be data_parallel with several processes. "
            f"Received: strategy={recipe.strategy} with "
            f"{processes.count()} processes."
        )


def scope(strategy):
    """The context in which to build and compile a model."""
    if strategy == "mirrored":
        return _mirrored().scope()
    return fit_scope(strategy)


def fit_scope(strategy):
    """The context in which to call `fit`."""
    if strategy == "data_parallel":
        return keras.distribution.DataParallel(
            devices=keras.distribution.list_devices(),
            auto_shard_dataset=False,  # each process reads its own share
        ).scope()
    return contextlib.nullcontext()


@contextlib.contextmanager
def one_device():
    """A context in which Keras uses only one device of this process."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def full_batches(count, batch_size, replicas):
    """The largest batch size that leaves no replica without images.

    Keras needs a first batch that is a multiple of the number of replicas.
    TensorFlow splits a smaller last batch into `ceil(rest / replicas)` images
    per replica and the remainder for the last replica. If that remainder is
    empty, TensorFlow's CPU kernels crash.

    Args:
        count: number of images, int >= 1.
        batch_size: upper limit of the result, int >= 1.
        replicas: number of replicas, int >= 1.

    Raises:
        RecipeError: if there is no such size.
    """
    largest = min(count, batch_size) // replicas * replicas
    for size in range(largest, 0, -replicas):
        rest = count % size
        if not rest or (replicas - 1) * -(-rest // replicas) < rest:
            return size
    raise RecipeError(
        f"`strategy` mirrored needs at least one image for each of {replicas} "
        f"replicas in every batch. Received: {count} images, "
        f"batch_size={batch_size}."
    )


def replicas():
    """Names of the devices of strategy mirrored: all GPUs, or else all CPUs."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


def _mirrored():
    import tensorflow as tf

    devices = replicas()
    # Collectives between logical CPUs, as the tests use them, are unreliable.
    on_cpu = devices[0].startswith("CPU")
    return tf.distribute.MirroredStrategy(
        devices,
        tf.distribute.ReductionToOneDevice() if on_cpu else None,
    )


def _check_mirrored(recipe):
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "`strategy` mirrored needs the TensorFlow backend. On JAX, use "
            "data_parallel. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if recipe.batch_size % len(replicas()):
        raise RecipeError(
            "`batch_size` counts the images of all replicas, so under "
            "`strategy` mirrored it must be a multiple of their number, "
            f"{len(replicas())}. Received: batch_size={recipe.batch_size}."
        )
    if recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` does not work under `strategy` mirrored: XLA cannot "
            "compile its collectives. Set `jit_compile = false`."
        )


def _check_data_parallel(recipe):
    if keras.backend.backend() != "jax":
        raise RecipeError(
            "`strategy` data_parallel needs the JAX backend. On TensorFlow, "
            f"use mirrored. Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    import jax

    devices = jax.device_count()
    if jax.local_device_count() * processes.count() != devices:
        raise RecipeError(
            "`strategy` data_parallel needs the same number of devices in "
            f"every process. Received: {jax.local_device_count()} devices in "
            f"this process, {devices} in {processes.count()} processes."
        )
    if recipe.batch_size % devices:
        raise RecipeError(
            "`batch_size` counts the images of all devices, so under "
            "`strategy` data_parallel it must be a multiple of their number, "
            f"{devices}. Received: batch_size={recipe.batch_size}."
        )
    if recipe.data_on_device:
        raise RecipeError(
            "`data_on_device` does not work under `strategy` data_parallel: "
            "it keeps all images on one device. Set `data_on_device = false`."
        )
    if recipe.is_streamed and processes.count() > 1:
        raise RecipeError(
            "Training in several processes needs images in memory. Received: "
            f"augmentation={recipe.augmentation}, which reads images from "
            "disk."
        )
