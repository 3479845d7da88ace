"""Evaluation of trained models, and the images that their recipe used."""

import dataclasses
import pathlib

import numpy as np

from keras_dropblock import hub
from keras_dropblock.errors import RecipeError, WeightsError, WorkdirError
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.training import compilation, plan
from keras_dropblock.training.recipe import Recipe


def evaluate(workdir, split="test"):
    """Evaluate the last weights of a run, which may still be training.

    Args:
        workdir: work directory of `fit`, with at least one finished epoch.
        split: `"test"`, `"train"` (without augmentation) or, if the recipe
            has a validation split, `"validation"`.

    Returns:
        A dict from the names of the task's metrics to scores, with the number
        of images as `images`.
    """
    return evaluate_model(*load_run(workdir), split)


def evaluate_model(model, recipe, split="test"):
    """Evaluate a model on a split of a recipe's data. See `evaluate`."""
    resolved = plan.resolve(recipe)
    splits = resolved.dataset.splits
    if split not in splits:
        raise RecipeError(
            f"`split` must be one of {', '.join(splits)}. Received: "
            f"split={split!r}."
        )
    return resolved.recipe.task.evaluate(model, resolved.batches(split))


def draw(model, recipe, folder):
    """Draw the pictures of a task for the test split of a recipe's data.

    Args:
        model: a trained model with a card.
        recipe: its `Recipe`.
        folder: folder to write to: see the `pictures` of the task.
    """
    resolved = plan.resolve(recipe)
    batches = resolved.batches("test")
    resolved.recipe.task.draw(model, batches, model.card, pathlib.Path(folder))


def load_run(workdir, dtype=None):
    """Load the last weights and the recipe of a work directory.

    Args:
        workdir: work directory of `fit`.
        dtype: a Keras dtype policy. None: that of the recipe.

    Returns:
        A tuple (model, resolved `Recipe`).

    Raises:
        WorkdirError: if `workdir` is not a work directory, or no epoch is
            finished.
    """
    workdir = pathlib.Path(workdir)
    for name in (workdirs.RECIPE, workdirs.RUN, workdirs.WEIGHTS):
        if not (workdir / name).exists():
            raise WorkdirError(
                f"{workdir} is not a work directory with a finished epoch: "
                f"{name} is missing."
            )
    recipe = Recipe.from_toml(workdir / workdirs.RECIPE)
    with compilation.policy(dtype or recipe.dtype):
        return hub.load(f"{workdir.resolve()}"), recipe


def load_source(source):
    """Load a trained model that has no work directory, with a recipe for it.

    Args:
        source: see `hub.load`.

    Returns:
        A tuple (model, `Recipe` to evaluate it).

    Raises:
        WeightsError: if there is no such model, or it has no card.
    """
    model = hub.load(source)
    if getattr(model, "card", None) is None:
        raise WeightsError(
            f"{source} has no card, so its data and preprocessing are "
            "unknown. Use a published model or a work directory."
        )
    return model, plan.recipe_of(model.card)


class Examples:
    """Images of a recipe's data set, before normalization.

    Args:
        recipe: `Recipe`.

    Raises:
        DataError: if the data are missing.
    """

    def __init__(self, recipe):
        recipe = dataclasses.replace(recipe, data_on_device=False)
        self.plan = plan.resolve(recipe)

    def drawn(self, count):
        """Up to `count` uint8 training images, drawn with the recipe's seed."""
        size = min(count, self.plan.dataset.size("train"))
        batches = self.plan.batches(
            "train",
            batch_size=size,
            training=True,
            seed=self.plan.recipe.seed,
        )
        return batches.read(0)[0]

    def test(self, count):
        """Up to `count` evenly spaced test images: (uint8 images, labels)."""
        return self.of("test", count)

    def of(self, split, count):
        """Up to `count` evenly spaced images of a split. See `test`."""
        size = self.plan.dataset.size(split)
        count = min(count, size)
        batches = self.plan.batches(split, batch_size=size // count)
        # Only the first image of each batch is kept.
        read = [batches.read(i) for i in range(count)]
        return tuple(
            np.concatenate([x[:1] for x in xs])
            for xs in zip(*read, strict=True)
        )
