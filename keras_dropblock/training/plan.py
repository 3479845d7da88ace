"""Plans of training runs: a recipe with its data set and its card."""

import dataclasses

import keras

from keras_dropblock import data, hub, models, tasks
from keras_dropblock.errors import RecipeError
from keras_dropblock.layers.convolution import synchronize_norms
from keras_dropblock.training import compilation, processes, strategies
from keras_dropblock.training.recipe import Recipe, defaults


@dataclasses.dataclass(frozen=True)
class Plan:
    """A resolved recipe with its data set and card, before training.

    Attributes:
        recipe: `Recipe`, including the values that depend on the data set.
        dataset: `data.Dataset`.
        card: `hub.Card` of the model to train, without scores.
    """

    recipe: Recipe
    dataset: data.Dataset
    card: hub.Card

    @property
    def epoch_split(self):
        """The split to evaluate after each epoch: validation, or else test."""
        held_out = "validation" in self.dataset.splits
        return "validation" if held_out else "test"

    def batches(self, split, **arguments):
        """Batches of a split, with the recipe's settings as defaults.

        Args:
            split: name of a split of the data set.
            **arguments: passed to `data.Dataset.batches`.

        Raises:
            RecipeError: if there is less than one batch to train on.
        """
        if self.recipe.data_on_device and keras.backend.backend() == "jax":
            arguments = {"on_device": True, **arguments}
        arguments = {"batch_size": self.recipe.batch_size, **arguments}
        try:
            return self.dataset.batches(
                split,
                preprocessing=self.card.preprocessing,
                targets=self.recipe.task.targets(self.dataset),
                **arguments,
            )
        except ValueError as error:
            raise RecipeError(str(error)) from error

    def training_batches(self):
        """Shuffled, augmented batches: the share of this process."""
        recipe = self.recipe
        return self.batches(
            "train",
            training=True,
            augmentation={
                "cutout": recipe.cutout,
                **recipe.task.mixing(),
                **recipe.task.augmentations[recipe.augmentation],
            },
            seed=recipe.seed,
            share=(processes.index(), processes.count()),
        )

    def scoring_batches(self, split):
        """Batches of a split to evaluate, divisible among all replicas."""
        if self.recipe.strategy != "mirrored":
            return self.batches(split)
        size = strategies.full_batches(
            self.dataset.size(split),
            self.recipe.batch_size,
            len(strategies.replicas()),
        )
        return self.batches(split, batch_size=size)

    def model(self, steps_per_epoch):
        """Build and compile the network, with newly initialized weights."""
        try:
            model = self.card.build()
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"`model` {self.recipe.model}: {error}"
            ) from error
        if self.recipe.synchronized_norms:
            synchronize_norms(model)
        self.recipe.task.initialize(model)
        compilation.compile_model(model, self.recipe, steps_per_epoch)
        return model


def resolve(recipe, name="model"):
    """Check a recipe, open its data and fill in what depends on the data.

    The recipe is checked completely before the data are opened.

    Args:
        recipe: `Recipe`.
        name: name of the model on its card.

    Returns:
        `Plan`.

    Raises:
        RecipeError: if the recipe does not fit its data, network or backend.
        DataError: if the data are missing.
    """
    recipe = settled(recipe)
    check(recipe)
    dataset = open_data(recipe)
    recipe.task.check_data(dataset)
    if recipe.mean is None or recipe.std is None:
        mean, std = dataset.statistics()
        recipe = dataclasses.replace(
            recipe, mean=recipe.mean or mean, std=recipe.std or std
        )
    channels = dataset.image_shape[-1]
    for key in ("mean", "std"):
        if len(getattr(recipe, key)) != channels:
            raise RecipeError(
                f"`{key}` must have one number for each of the {channels} "
                f"channels of {recipe.dataset}. Received: "
                f"{key}={getattr(recipe, key)}."
            )
    return Plan(recipe, dataset, card_of(recipe, dataset, name))


def settled(recipe):
    """Fill in the keys that follow from the recipe and its data set's name.

    The data are not opened.
    """
    changes = {}
    if recipe.augmentation is None:
        task = recipe.task
        changes["augmentation"] = task.usual_augmentation(recipe.dataset)
    if recipe.learning_rate_drop_steps or (
        recipe.learning_rate_schedule == "cosine"
    ):
        changes["learning_rate_drops"] = ()
    if recipe.mean is None or recipe.std is None:
        mean, std = _statistics(recipe)
        changes["mean"] = recipe.mean or mean
        changes["std"] = recipe.std or std
    return dataclasses.replace(recipe, **changes)


def _statistics(recipe):
    """Published mean and std: of the initial weights, or of the data set."""
    preprocessing = recipe.task.initial_preprocessing()
    if preprocessing is not None:
        return tuple(preprocessing.mean), tuple(preprocessing.std)
    return data.published_statistics(recipe.dataset) or (None, None)


def has_validation(recipe):
    """Whether a recipe has a validation split."""
    if recipe.validation_split is not None:
        return True
    return data.sources.has_own_validation(recipe.dataset)


def card_of(recipe, dataset, name):
    """Make the `hub.Card` of a model before it is trained.

    Args:
        recipe: `Recipe` with its mean and std.
        dataset: `data.Dataset`; only its images' shape and class names count.
        name: of the model.
    """
    builder, arguments = recipe.task.network(
        recipe.model, dataset, recipe.network_options
    )
    return hub.Card(
        name=name,
        network=recipe.model,
        builder=builder,
        arguments=arguments,
        preprocessing=data.Preprocessing(
            dataset.image_shape[:2],
            recipe.mean,
            recipe.std,
            recipe.crop_fraction,
            framing=dataset.framing,
        ),
        class_names=tuple(recipe.task.class_names(dataset)),
        task=recipe.task.name(),
        dataset=recipe.dataset,
        data_options=_data_options(recipe),
        **recipe.task.provenance(),
    )


def _data_options(recipe):
    """Keys of the recipe that select or read the data, for the card."""
    values, usual = recipe.flat(), defaults(recipe.task.name())
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in hub.card_rules.DATA_OPTIONS
        if (value := values.get(name)) != usual.get(name)
    }


def check(recipe):
    """Raise `RecipeError` for errors that do not depend on the data."""
    try:
        models.notation.check(
            recipe.model,
            dropblock_groups=recipe.dropblock_groups,
            dropout=recipe.dropout,
            spatial_dropout=recipe.spatial_dropout,
            shortcut_dropout=recipe.shortcut_dropout,
        )
    except ValueError as error:
        raise RecipeError(f"`model` {recipe.model}: {error}") from error
    if recipe.is_streamed and recipe.image_size is None:
        raise RecipeError(
            "`image_size` must be given with `augmentation` "
            "resized_crop_flip: it is the side of the crops, in pixels, 224 "
            f"for ImageNet. Received: dataset={recipe.dataset}, "
            "image_size=None."
        )
    compilation.check(recipe)
    strategies.check(recipe)


def open_data(recipe):
    """Open the `data.Dataset` of a recipe. `augmentation` must not be None."""
    return data.load(
        recipe.dataset,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        test_split=recipe.test_split,
        validation_split=recipe.validation_split,
        image_size=recipe.image_size,
        skip_broken=recipe.skip_broken,
        streamed=recipe.is_streamed,
        crop_fraction=recipe.crop_fraction,
        mean=recipe.mean,
        **recipe.task.data_options(),
    )


def recipe_of(card):
    """A recipe to evaluate a published model that has only a card.

    Args:
        card: `hub.Card` of the model.

    Raises:
        RecipeError: if a value in the card's `data_options` is invalid.
    """
    task = tasks.find(card.task)()
    preprocessing = card.preprocessing
    streamed = preprocessing.crop_fraction != 1.0
    height, width = preprocessing.image_size
    # Resizing an image to its own size changes nothing.
    resizable = data.sources.can_resize(card.dataset)
    recipe = dataclasses.replace(
        Recipe(task=task),
        model=card.network,
        dataset=card.dataset,
        test_split=card.metrics.get("test", {}).get("split", "test"),
        augmentation="resized_crop_flip" if streamed else "none",
        image_size=_image_size(height, width) if resizable else None,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    return recipe.replaced(card.data_options, f"The card of {card.name}")


def _image_size(height, width):
    """The recipe's key `image_size`: one side, or height and width."""
    return height if height == width else (height, width)
