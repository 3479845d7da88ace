"""What travels with a model: classes, preprocessing, recipe and scores."""

import dataclasses
import difflib
import json
import pathlib
import re
import tomllib

from keras_dropblock.data import Normalise
from keras_dropblock.models import weights
from keras_dropblock.recipes import Recipe

# Made by `training/publish.py` from each `models/<name>/`.
REGISTRY = pathlib.Path(__file__).with_name("published.json")
# What of a card's metrics.json the registry has; the recipe comes with it.
_KEYS = ("image_shape", "class_names", "parameters", "n", "scores", "weights")


@dataclasses.dataclass(frozen=True)
class Card:
    """What one needs besides the weights to use a model, and to judge it.

    Attributes:
        name: of the model; for a work directory that of its folder.
        recipe: `Recipe`, resolved: network, data set and all.
        image_shape: (height, width, channels) it was trained with.
        class_names: one for each logit.
        metrics: what was published of it: `n` and `scores`, a dict from
            accuracy, top5, nll and ece to their `mean` and `std` over n
            runs, `weights` (sha256, bytes, url), `parameters`. Of a work
            directory: empty.
    """

    name: str
    recipe: Recipe
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    metrics: dict

    def __post_init__(self):
        published = self.metrics.get("weights", {"sha256": "0" * 64})
        for rule, right in (
            ("a name of a-z, 0-9 and _", re.fullmatch("[a-z0-9_]+", self.name)),
            (
                "weights with a SHA-256 of 64 digits",
                re.fullmatch("[0-9a-f]{64}", published["sha256"]),
            ),
        ):
            if self.metrics and not right:
                raise weights.WeightsError(
                    f"The card of {self.name!r} must have {rule}."
                )

    @classmethod
    def from_entry(cls, name, entry):
        """From an entry of the registry: see `entry`."""
        entry = dict(entry)
        recipe = Recipe().replaced(
            entry.pop("recipe"), source=f"The card of {name}"
        )
        return cls(
            name,
            recipe,
            tuple(entry["image_shape"]),
            tuple(entry["class_names"]),
            entry,
        )

    @classmethod
    def from_texts(cls, metrics, recipe):
        """From a card's `metrics.json` and `recipe.toml`."""
        metrics = json.loads(metrics)
        return cls.from_entry(
            metrics["name"],
            {
                **{key: metrics[key] for key in _KEYS},
                "recipe": tomllib.loads(recipe),
            },
        )

    @classmethod
    def from_folder(cls, folder):
        """From `models/<name>/`, or the work directory of a run."""
        folder = pathlib.Path(folder)
        recipe = (folder / "recipe.toml").read_text("utf-8")
        if (folder / "run.json").exists():
            run = json.loads((folder / "run.json").read_text("utf-8"))
            return cls(
                folder.resolve().name,
                Recipe.from_toml(folder / "recipe.toml"),
                tuple(run["image_shape"]),
                tuple(run["class_names"]),
                {},
            )
        metrics = (folder / "metrics.json").read_text("utf-8")
        return cls.from_texts(metrics, recipe)

    @property
    def entry(self):
        """The registry's entry: what `from_entry` reads."""
        recipe = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self.recipe).items()
            if value is not None
        }
        return {**self.metrics, "recipe": recipe}

    @property
    def normalise(self):
        """`data.Normalise` that the model was trained with."""
        return Normalise(self.recipe.mean, self.recipe.std)

    def find_weights(self, folder=None, local=True):
        """Path of the published weights, checked: see `weights.find`."""
        file = self.metrics["weights"]
        return weights.find(
            self.name,
            sha256=file["sha256"],
            size=file["bytes"],
            url=file["url"],
            folder=folder,
            local=local,
        )


def read_registry():
    """`Card`s of all published models, by name."""
    entries = json.loads(REGISTRY.read_text("utf-8"))
    return {
        name: Card.from_entry(name, entry) for name, entry in entries.items()
    }


def published():
    """The published models and how good they are.

    Returns:
        A dict by name of dicts: `model` (the paper's notation), `dataset`,
        `parameters`, `bytes` of the weights, `n` runs, and mean and, for
        n > 1, `_std` of `accuracy`, `nll` and `ece` on the test set.

    Example:
        >>> for name, of in published().items():
        ...     print(name, of["dataset"], of["accuracy"], of["n"])
    """
    return {name: _row(card) for name, card in read_registry().items()}


def _row(card):
    row = {
        "model": card.recipe.model,
        "dataset": card.recipe.dataset,
        "parameters": card.metrics["parameters"],
        "bytes": card.metrics["weights"]["bytes"],
        "n": card.metrics["n"],
    }
    for key in ("accuracy", "nll", "ece"):
        row[key] = card.metrics["scores"][key]["mean"]
        row[f"{key}_std"] = card.metrics["scores"][key]["std"]
    return row


def of_network(weights_of, notation):
    """`Card` of published weights for a network.

    Args:
        weights_of: a published name, or a data set such as `"cifar10"`. Of
            several on that data set it is the one with the shortest name:
            trained plainly, with no method named.
        notation: of the network that wants the weights.

    Raises:
        weights.WeightsError: if none is published for that network.
    """
    fitting = {
        name: card
        for name, card in read_registry().items()
        if card.recipe.model == notation
    }
    for name in sorted(fitting, key=lambda name: (len(name), name)):
        dataset = re.split("[:/]", fitting[name].recipe.dataset)[0]
        if weights_of in (name, dataset):
            return fitting[name]
    raise weights.WeightsError(
        "`weights` must be a path, such as './my.weights.h5', or published "
        f"for {notation}: {', '.join(fitting) or 'nothing is'}. "
        f"Received: weights={weights_of!r}."
    )


def unknown(source):
    """The error for a model that is not there; it names the nearest one."""
    names = read_registry()
    near = difflib.get_close_matches(source, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return weights.WeightsError(
        "The model must be a folder, a URL, or published: "
        f"{', '.join(names) or 'nothing is yet'}. "
        f"Received: {source!r}.{hint}"
    )
