"""Compilation of a recipe's model, and the limits of each Keras backend."""

import contextlib

import keras

from keras_dropblock.errors import RecipeError
from keras_dropblock.optimizers import (
    SGD,
    cosine_schedule,
    couple_weight_decay,
    drop_steps,
    step_schedule,
)


def check(recipe):
    """Raise `RecipeError` for keys that the backend does not support."""
    backend = keras.backend.backend()
    if keras.config.image_data_format() != "channels_last":
        raise RecipeError(
            "Recipes need image_data_format channels_last. Received: "
            f"image_data_format={keras.config.image_data_format()}."
        )
    if recipe.data_on_device and (backend != "jax" or recipe.is_streamed):
        raise RecipeError(
            "`data_on_device` needs the JAX backend and images in memory: it "
            "excludes `augmentation` resized_crop_flip, which reads images "
            f"from disk. Received: augmentation={recipe.augmentation}, "
            f"KERAS_BACKEND={backend}."
        )
    if backend == "torch" and recipe.steps_per_execution > 1:
        raise RecipeError(
            "`steps_per_execution` must be 1 on the torch backend. Received: "
            f"steps_per_execution={recipe.steps_per_execution}."
        )
    # Keras 3.15, torch 2.13, one core: a step of WRN-10-1 with DropBlock took
    # 140 s to compile, became 52 graphs and ran in 0.24 s instead of 0.12 s.
    if backend == "torch" and recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` must be false on the torch backend: torch.compile "
            "splits Keras's train step into many small graphs, which take "
            "minutes to compile and run slower. Received: jit_compile=True."
        )


def compile_model(model, recipe, steps_per_epoch):
    """Compile a model with the loss, optimizer and schedule of a recipe."""
    couple_weight_decay(model, recipe.weight_decay, norms=recipe.decay_norms)
    drops = recipe.learning_rate_drop_steps or drop_steps(
        recipe.learning_rate_drops, steps_per_epoch
    )
    warmup = recipe.warmup_steps or recipe.warmup_epochs * steps_per_epoch
    if recipe.learning_rate_schedule == "cosine":
        rate = cosine_schedule(
            recipe.learning_rate,
            recipe.epochs * steps_per_epoch,
            warmup_steps=warmup,
        )
    else:
        rate = step_schedule(
            recipe.learning_rate,
            drops,
            recipe.learning_rate_factor,
            warmup_steps=warmup,
        )
    optimizer = SGD(
        rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        reset_momentum_at=drops if recipe.reset_momentum else (),
        learning_rate_factors=recipe.task.learning_rate_factors(),
        global_clipnorm=recipe.clip_norm or None,
    )
    backend = keras.backend.backend()
    recipe.task.compile(
        model,
        optimizer,
        jit_compile=True if backend == "jax" else recipe.jit_compile,
        steps_per_execution=recipe.steps_per_execution,
    )
    # The optimizer's variables must be created inside the strategy's scope,
    # so build it here and not in the first step.
    model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def policy(dtype):
    """A context with this Keras dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
