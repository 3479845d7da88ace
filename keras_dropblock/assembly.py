"""From a recipe to its data and a compiled model.

With `strategies`, the only place that knows what backends can do.
"""

import contextlib
import dataclasses

import keras

from keras_dropblock import data, processes, strategies
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
    # Of strategy data_parallel, in the first process: the same on one device.
    copy: keras.Model | None = None

    @contextlib.contextmanager
    def on_one_device(self):
        """A context in which one process may use the model without others.

        Yields the model as it was when an epoch or the training ended.
        """
        if self.copy is None:
            yield self.model
            return
        self.copy.set_weights(self.model.get_weights())
        with strategies.one_device():
            yield self.copy


def prepare(recipe):
    """Load the data, build and compile the model.

    Returns:
        `Run`, with what the data set decides filled in to the recipe.

    Raises:
        RecipeError: if the recipe does not fit its data, network or backend.
        data.DataError: if the data are not there.
    """
    recipe, splits = _resolve(recipe)
    _require_same(recipe, splits)
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
        share=(processes.index(), processes.count()),
    )
    with policy(recipe.dtype), strategies.scope(recipe.strategy):
        model = _compiled(recipe, splits, steps_per_epoch=len(train))
    copy = None
    if recipe.strategy == "data_parallel" and processes.is_first():
        with policy(recipe.dtype):
            copy = _compiled(recipe, splits, steps_per_epoch=len(train))
    shared = {}
    if recipe.strategy == "mirrored":
        shared["batch_size"] = strategies.full_batches(
            *(splits.size("test"), recipe.batch_size),
            len(strategies.replicas()),
        )
    test = batches(recipe, splits, "test", **shared)
    return Run(recipe, splits, train, test, model, copy)


def _compiled(recipe, splits, steps_per_epoch):
    model = build(recipe, splits.image_shape, len(splits.class_names))
    if recipe.synchronized_norms:
        synchronize_norms(model)
    compile_model(model, recipe, steps_per_epoch)
    return model


def _require_same(recipe, splits):
    """Refuse other recipes, or data of another size, in other processes."""
    if processes.count() > 1:
        about = (
            f"{splits.size('train')} training images {splits.image_shape}, "
            f"{len(splits.class_names)} classes"
        )
        difference = processes.difference(f"{recipe.to_toml()}# {about}\n")
        if difference:
            raise RecipeError(
                "All processes must have one recipe and the same data, from "
                f"which `mean` and `std` are. {difference}"
            )


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
    check_data_format()
    if recipe.data_on_device and keras.backend.backend() == "jax":
        arguments["on_device"] = True
    arguments = {"batch_size": recipe.batch_size, **arguments}
    normalise = data.Normalise(recipe.mean, recipe.std)
    try:
        return splits.batches(split, normalise=normalise, **arguments)
    except ValueError as error:
        raise RecipeError(str(error)) from error


def check_backend(recipe):
    """Raise RecipeError for what the backend at hand cannot do."""
    check_data_format()
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
    # With Keras 3.15 and torch 2.13 on one core, a step of WRN-10-1 with
    # DropBlock became 52 graphs after 140 s, and took 0.24 s in place of 0.12.
    if keras.backend.backend() == "torch" and recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` must be false on the torch backend: torch.compile "
            "splits Keras's step into many small graphs, which take minutes "
            "to compile and are slower. Received: jit_compile=True."
        )
    strategies.check(recipe)


def check_data_format():
    """Raise RecipeError unless networks take images as data sets have them."""
    if keras.config.image_data_format() != "channels_last":
        raise RecipeError(
            "Training and evaluation by recipe need image_data_format "
            f"channels_last. Received: {keras.config.image_data_format()}."
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
        # By name it would be made in the first step, which TensorFlow then
        # traces twice.
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
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
