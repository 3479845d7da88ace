"""From a recipe to its data and a compiled model.

The only place that knows strategies and what backends can do.
"""

import contextlib
import dataclasses

import keras

from keras_dropblock import data
from keras_dropblock.layers.convolution import synchronize_norms
from keras_dropblock.models import from_recipe
from keras_dropblock.optimizers import (
    SGD,
    couple_weight_decay,
    drop_steps,
    step_schedule,
)
from keras_dropblock.recipes import (
    AUGMENTATIONS,
    Recipe,
    RecipeError,
    usual_augmentation,
)


@dataclasses.dataclass(frozen=True)
class Run:
    """All that a recipe stands for, before anything is written."""

    recipe: Recipe
    splits: object  # `data.sources.Splits`, or `data.photographs.Photographs`
    train: keras.utils.PyDataset
    test: keras.utils.PyDataset
    model: keras.Model


def prepare(recipe):
    """Load the data, build and compile the model.

    Returns:
        `Run`, with what the data set decides filled in to the recipe.

    Raises:
        RecipeError: if the recipe does not fit its data, network or backend.
        data.DataError: if the data are not there.
    """
    recipe, splits = _resolve(recipe)
    check_backend(recipe)
    keras.utils.set_random_seed(recipe.seed)
    train = batches(
        recipe,
        splits,
        "train",
        training=True,
        augmentation={
            "cutout": recipe.cutout,
            "mixup": recipe.mixup,
            **AUGMENTATIONS[recipe.augmentation],
        },
        seed=recipe.seed,
    )
    with policy(recipe.dtype), _scope(recipe.strategy):
        model = build(recipe, splits.image_shape, len(splits.class_names))
        if recipe.synchronized_norms:
            synchronize_norms(model)
        compile_model(model, recipe, steps_per_epoch=len(train))
    shared = {}
    if recipe.strategy == "mirrored":
        shared["batch_size"] = full_batches(
            splits.size("test"), recipe.batch_size, len(_replicas())
        )
    test = batches(recipe, splits, "test", **shared)
    return Run(recipe, splits, train, test, model)


def load(recipe):
    """The recipe's data: `data.sources.Splits`, or streamed `Photographs`."""
    arguments = {
        "data_dir": recipe.data_dir,
        "train_split": recipe.train_split,
        "test_split": recipe.test_split,
        "image_size": recipe.image_size,
    }
    if not recipe.is_streamed:
        return data.load(recipe.dataset, **arguments)
    if recipe.image_size is None:
        raise RecipeError(
            "`image_size` must be given with `augmentation` resized_crop_flip "
            f"(the one of {recipe.dataset}, unless another is set): the side "
            "of the crops, 224 for ImageNet."
        )
    return data.stream(
        recipe.dataset, **arguments, central_part=recipe.central_part
    )


def _resolve(recipe):
    """Fill in what the data set decides, and check what it must fit."""
    recipe = dataclasses.replace(
        recipe,
        augmentation=recipe.augmentation or usual_augmentation(recipe.dataset),
    )
    splits = load(recipe)
    published = data.normalise.published(recipe.dataset)
    mean, std = published or splits.normalisation()
    recipe = dataclasses.replace(
        recipe, mean=recipe.mean or mean, std=recipe.std or std
    )
    channels = splits.image_shape[-1]
    for key in ("mean", "std"):
        if len(getattr(recipe, key)) != channels:
            raise RecipeError(
                f"`{key}` must have one number for each of the {channels} "
                f"channels of {recipe.dataset}. Received: "
                f"{key}={getattr(recipe, key)}."
            )
    return recipe, splits


def batches(recipe, splits, split, **arguments):
    """Batches of a split as the recipe has them, unless arguments differ."""
    if recipe.data_on_device and keras.backend.backend() == "jax":
        arguments["on_device"] = True
    arguments = {"batch_size": recipe.batch_size, **arguments}
    normalise = data.Normalise(recipe.mean, recipe.std)
    try:
        return splits.batches(split, normalise=normalise, **arguments)
    except ValueError as error:
        raise RecipeError(str(error)) from error


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


def check_backend(recipe):
    """Raise RecipeError for what the backend at hand cannot do."""
    if keras.config.image_data_format() != "channels_last":
        raise RecipeError(
            "Training needs image_data_format channels_last. Received: "
            f"{keras.config.image_data_format()}."
        )
    if recipe.data_on_device and (
        keras.backend.backend() != "jax" or recipe.is_streamed
    ):
        raise RecipeError(
            "`data_on_device` is for images in memory and the JAX backend. "
            f"Received: augmentation={recipe.augmentation}, "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if keras.backend.backend() == "torch" and recipe.steps_per_execution > 1:
        raise RecipeError(
            "`steps_per_execution` must be 1 on the torch backend. Received: "
            f"steps_per_execution={recipe.steps_per_execution}."
        )
    if keras.backend.backend() == "torch" and recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` is not for the torch backend: torch.compile traces "
            "Keras's steps anew each time. Set it to false."
        )
    if recipe.strategy == "mirrored":
        _check_mirrored(recipe)
    elif recipe.synchronized_norms:
        raise RecipeError(
            "`synchronized_norms` is for `strategy` mirrored: elsewhere "
            f"there is one replica. Received: strategy={recipe.strategy}."
        )


def _check_mirrored(recipe):
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "`strategy` mirrored needs the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if recipe.batch_size % len(_replicas()):
        raise RecipeError(
            "`batch_size` is that of all replicas under `strategy` mirrored, "
            f"and must be a multiple of their number, {len(_replicas())}. "
            f"Received: batch_size={recipe.batch_size}."
        )
    if recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` does not work under `strategy` mirrored: XLA cannot "
            "compile its collectives. Set one of them otherwise."
        )


def build(recipe, image_shape, num_classes):
    """The recipe's network, with its regularisers."""
    try:
        return from_recipe(recipe, image_shape, num_classes)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"`model` {recipe.model}: {error}") from error


def compile_model(model, recipe, steps_per_epoch):
    """Give a model the recipe's loss, weight decay, optimizer and schedule."""
    couple_weight_decay(model, recipe.weight_decay, norms=recipe.decay_norms)
    rate = step_schedule(
        recipe.learning_rate,
        recipe.learning_rate_drops,
        recipe.learning_rate_factor,
        steps_per_epoch,
        warmup_epochs=recipe.warmup_epochs,
    )
    optimizer = SGD(
        rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        reset_momentum_at=drop_steps(
            recipe.learning_rate_drops, steps_per_epoch
        )
        if recipe.reset_momentum
        else (),
    )
    backend = keras.backend.backend()
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=True if backend == "jax" else recipe.jit_compile,
        steps_per_execution=recipe.steps_per_execution,
    )
    # Here, in the scope of the strategy, and not in the first step.
    model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def policy(dtype):
    """A context with this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _scope(strategy):
    if strategy == "default":
        return contextlib.nullcontext()
    import tensorflow as tf

    devices = _replicas()
    # Collectives between logical CPUs, as in tests, are not dependable.
    on_cpu = devices[0].startswith("CPU")
    return tf.distribute.MirroredStrategy(
        devices,
        tf.distribute.ReductionToOneDevice() if on_cpu else None,
    ).scope()


def _replicas():
    """Names of the devices of strategy mirrored: all GPUs, or else CPUs."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]
