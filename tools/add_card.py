"""Add a card.json to folders that version 0.1 wrote without one.

    python tools/add_card.py FOLDER ...

FOLDER is a work directory (recipe.toml, run.json) or the folder of a published
model (recipe.toml, metrics.json) of version 0.1. Weights and checkpoints are
not changed. Resuming a run of version 0.1 also writes its card.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

from keras_dropblock import data, hub
from keras_dropblock.errors import KerasDropBlockError, WorkdirError
from keras_dropblock.training import plan
from keras_dropblock.training.recipe import Recipe


class _Named(data.Dataset):
    """The properties of a data set that the task needs, without its data."""

    def __init__(self, image_shape, class_names):
        self.image_shape = tuple(image_shape)
        self.class_names = tuple(class_names)


def card_of(folder):
    """Make the `hub.Card` of a folder of version 0.1.

    Raises:
        WorkdirError: if it is not such a folder.
        RecipeError: if its recipe cannot be read.
    """
    folder = pathlib.Path(folder)
    for name in ("run.json", "metrics.json"):
        path = folder / name
        if path.exists():
            info = json.loads(path.read_text("utf-8"))
            if "image_shape" in info:
                break
    else:
        raise WorkdirError(
            f"{folder} must hold the run.json or metrics.json of version 0.1."
        )
    recipe = Recipe.from_toml(folder / "recipe.toml")
    dataset = _Named(info["image_shape"], info["class_names"])
    published = "weights" in info
    scores = folder / "metrics.json"
    scores = json.loads(scores.read_text("utf-8")) if scores.exists() else {}
    known = ("model", "dataset", "image_shape", "class_names", "name")
    metrics = {k: v for k, v in info.items() if k not in known}
    if published:
        metrics["test"]["split"] = recipe.test_split
    name = info["name"] if published else folder.resolve().name
    return dataclasses.replace(
        plan.card_of(recipe, dataset, name),
        metrics=metrics if published else _of_run(scores, recipe),
    )


def _of_run(scores, recipe):
    """Metrics of a run's card. {} if the run is not finished."""
    if not scores:
        return {}
    return {
        "n": 1,
        "scores": {
            metric.name: {"mean": scores[metric.name], "std": None}
            for metric in recipe.task.metrics
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    for folder in parser.parse_args().folders:
        try:
            card_of(folder).write(folder)
        except KerasDropBlockError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        print(f"{folder / hub.card.FILE}")


if __name__ == "__main__":
    main()
