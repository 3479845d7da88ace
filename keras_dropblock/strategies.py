"""How a model is spread over devices: `strategy` of a recipe."""

import contextlib

import keras

from keras_dropblock import processes
from keras_dropblock.recipes import RecipeError


def check(recipe):
    """Raise RecipeError for what the strategy cannot do on this backend."""
    if recipe.strategy == "mirrored":
        _check_mirrored(recipe)
    elif recipe.synchronized_norms:
        raise RecipeError(
            "`synchronized_norms` is for `strategy` mirrored: elsewhere batch "
            "statistics are those of the whole batch. Received: "
            f"strategy={recipe.strategy}."
        )
    if recipe.strategy == "data_parallel":
        _check_data_parallel(recipe)
    elif processes.count() > 1:
        raise RecipeError(
            "`strategy` must be data_parallel with several processes. "
            f"Received: strategy={recipe.strategy}, and "
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
    """A context in which Keras uses one device of this process alone."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


class EvaluateOnOneDevice(keras.callbacks.Callback):
    """Writes the scores of a spread model on other data to an epoch's logs.

    The number of images need not be a multiple of that of the devices, and
    with several processes only those that have this callback need to read
    them; the others wait for them in the next step.

    Args:
        on_one_device: gives a context of the model as it is now, on one
            device of this process.
        batches: what to evaluate it on.
    """

    def __init__(self, on_one_device, batches):
        super().__init__()
        self.on_one_device = on_one_device
        self.batches = batches

    def on_epoch_end(self, epoch, logs=None):
        with self.on_one_device() as model:
            scores = model.evaluate(self.batches, return_dict=True, verbose=0)
        logs.update({f"val_{name}": score for name, score in scores.items()})


def full_batches(count, batch_size, replicas):
    """The largest size of batches that all replicas can share.

    Keras needs a first batch of equal parts. Of the last one TensorFlow gives
    each replica `ceil(rest / replicas)` images and the last what is left;
    with none there its CPU kernels crash.
    """
    largest = min(count, batch_size) // replicas * replicas
    for size in range(largest, 0, -replicas):
        rest = count % size
        if not rest or (replicas - 1) * -(-rest // replicas) < rest:
            return size
    raise RecipeError(
        f"`strategy` mirrored needs images that {replicas} replicas can share, "
        f"one at least for each. Received: {count} images in batches of "
        f"{batch_size}."
    )


def replicas():
    """Names of the devices of strategy mirrored: all GPUs, or else CPUs."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


def _mirrored():
    import tensorflow as tf

    devices = replicas()
    # Collectives between logical CPUs, as in tests, are not dependable.
    on_cpu = devices[0].startswith("CPU")
    return tf.distribute.MirroredStrategy(
        devices,
        tf.distribute.ReductionToOneDevice() if on_cpu else None,
    )


def _check_mirrored(recipe):
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "`strategy` mirrored needs the TensorFlow backend; on JAX it is "
            "data_parallel. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if recipe.batch_size % len(replicas()):
        raise RecipeError(
            "`batch_size` is that of all replicas under `strategy` mirrored, "
            f"and must be a multiple of their number, {len(replicas())}. "
            f"Received: batch_size={recipe.batch_size}."
        )
    if recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` does not work under `strategy` mirrored: XLA cannot "
            "compile its collectives. Set one of them otherwise."
        )


def _check_data_parallel(recipe):
    if keras.backend.backend() != "jax":
        raise RecipeError(
            "`strategy` data_parallel needs the JAX backend; on TensorFlow it "
            f"is mirrored. Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    import jax

    devices = jax.device_count()
    if jax.local_device_count() * processes.count() != devices:
        raise RecipeError(
            "`strategy` data_parallel needs processes with equally many "
            f"devices. Received: {jax.local_device_count()} here, {devices} "
            f"in {processes.count()} processes."
        )
    if recipe.batch_size % devices:
        raise RecipeError(
            "`batch_size` is that of all devices under `strategy` "
            f"data_parallel, and must be a multiple of their number, {devices}"
            f". Received: batch_size={recipe.batch_size}."
        )
    if recipe.data_on_device:
        raise RecipeError(
            "`data_on_device` lays all images on one device, and is not for "
            "`strategy` data_parallel. Set one of them otherwise."
        )
    if recipe.is_streamed and processes.count() > 1:
        raise RecipeError(
            "Several processes read images from memory alone, each its share. "
            f"Received: augmentation={recipe.augmentation}, which reads "
            "photographs from disk."
        )
