"""Checks of all published cards in a checkout."""

import dataclasses
import re

import pages
from keras_dropblock import hub
from keras_dropblock.hub import registry, weights
from keras_dropblock.training.recipe import Recipe

AGAIN = "Run python tools/publish.py --refresh"


def check_cards(root):
    """Check that cards, registry, tables and weights agree."""
    known = registry.cards()
    folders = sorted(p.parent for p in root.glob("models/*/card.json"))
    assert [folder.name for folder in folders] == sorted(known)
    cards = [hub.Card.from_folder(folder) for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        entry = known[folder.name]
        assert entry.metrics.items() <= card.metrics.items(), AGAIN
        assert dataclasses.replace(entry, metrics={}) == (
            dataclasses.replace(card, metrics={})
        ), AGAIN
        _check_card(folder, card)
    defaults = [(c.network, c.dataset) for c in cards if c.default]
    assert len(defaults) == len({*defaults})
    for page, content in pages.tables(cards).items():
        table = f"<!-- models -->\n\n{content}\n<!-- /mod"
        assert table in (root / page).read_text("utf-8"), AGAIN


def check_folder(folder, pictures, machine):
    """Check the files of a published model, which have no path of a machine.

    Args:
        folder: folder of the model.
        pictures: names of the pictures that it must have.
        machine: a folder whose path may not be published.
    """
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "card.json",
        "recipe.toml",
        "curves.png",
        *pictures,
    }
    for path in (*folder.glob("*.*"), registry.REGISTRY):
        assert str(machine).encode() not in path.read_bytes(), path


def _check_card(folder, card):
    metrics = card.metrics
    assert card.name == folder.name
    recipe = Recipe.from_toml(folder / "recipe.toml")
    assert recipe.model == card.network and recipe.task.name() == card.task
    assert (recipe.mean, recipe.std) == (
        card.preprocessing.mean,
        card.preprocessing.std,
    )
    assert recipe.seed == metrics["weights"]["seed"] == metrics["seeds"][0]
    page = (folder / "README.md").read_text("utf-8")
    assert page == pages.card_page(card, recipe), AGAIN
    for picture in re.findall(r"!\[[^]]*\]\((\w+\.png)\)", page):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    runs = metrics["runs"]
    assert metrics["n"] == len(runs) == len({*metrics["seeds"]})
    assert [run["seed"] for run in runs] == metrics["seeds"]
    for key, score in metrics["scores"].items():
        values = [run[key] for run in runs]
        if None in values:
            assert score == {"mean": None, "std": None}
            continue
        mean = sum(values) / len(runs)
        assert abs(score["mean"] - mean) < 1e-9
        assert (score["std"] is None) == (len(runs) == 1)
    assert re.fullmatch("[0-9a-f]{40}", metrics["training"]["commit"])
    if metrics["weights"]["url"] is None:
        path = weights.of_card(card)
        assert path.stat().st_size == metrics["weights"]["bytes"]
