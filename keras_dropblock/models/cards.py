"""What travels with a model: classes, preprocessing, recipe and scores."""

import dataclasses
import difflib
import pathlib
import re

from keras_dropblock.data import Normalise
from keras_dropblock.models import card_rules, weights
from keras_dropblock.recipe_text import parse, shown
from keras_dropblock.recipes import Recipe

# Made by `training/publish.py` from each `models/<name>/`.
REGISTRY = pathlib.Path(__file__).with_name("published.json")


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
        card_rules.check(self)

    @classmethod
    def from_entry(cls, name, entry):
        """From an entry of the registry: see `entry`.

        Raises:
            weights.WeightsError: for an entry that is not as it must be.
            RecipeError: for a recipe that cannot be used.
        """
        what = f"The card of {shown(name)}"
        card_rules.check_keys(entry, (*card_rules.KEYS, "recipe"), what)
        entry = dict(entry)
        recipe = entry.pop("recipe")
        card_rules.check_keys(recipe, (), f"The recipe of {shown(name)}")
        recipe = Recipe().replaced(recipe, source=what)
        return cls(name, recipe, *_classes(entry, what), entry)

    @classmethod
    def from_texts(cls, metrics, recipe):
        """From a card's `metrics.json` and `recipe.toml`.

        Raises:
            weights.WeightsError: for metrics that are not as they must be.
            RecipeError: for a recipe that cannot be used.
        """
        what = "The metrics.json of a card"
        metrics = card_rules.read_json(metrics, what)
        card_rules.check_keys(metrics, ("name", *card_rules.KEYS), what)
        return cls.from_entry(
            metrics["name"],
            {
                **{key: metrics[key] for key in card_rules.KEYS},
                "recipe": parse(recipe, "The recipe.toml of a card"),
            },
        )

    @classmethod
    def from_folder(cls, folder):
        """From `models/<name>/`, or the work directory of a run.

        Raises:
            weights.WeightsError: for a file that is not as it must be.
            RecipeError: for a recipe that cannot be used.
        """
        folder = pathlib.Path(folder)
        recipe = _text(folder / "recipe.toml")
        if not (folder / "run.json").exists():
            return cls.from_texts(_text(folder / "metrics.json"), recipe)
        what = str(folder / "run.json")
        run = card_rules.read_json(_text(folder / "run.json"), what)
        return cls(
            folder.resolve().name,
            Recipe.from_toml(folder / "recipe.toml"),
            *_classes(run, what),
            {},
        )

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


def _text(path):
    """What a file of a card holds, or WeightsError."""
    try:
        return path.read_text("utf-8")
    except UnicodeError as error:
        raise weights.WeightsError(f"{path} must be text: {error}.") from error


def _classes(content, what):
    """`image_shape` and `class_names` of a card or a run, as a `Card` has."""
    keys = ("image_shape", "class_names")
    card_rules.check_keys(content, keys, what)
    return [
        tuple(value) if isinstance(value, list) else value
        for value in map(content.get, keys)
    ]


def read_registry():
    """`Card`s of all published models, by name."""
    entries = card_rules.read_json(_text(REGISTRY), str(REGISTRY))
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
