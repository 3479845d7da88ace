"""What must be true of the cards of a checkout, whatever is published."""

import json
import re

from keras_dropblock.analysis import pages
from keras_dropblock.models import cards
from keras_dropblock.recipes import Recipe

PICTURES = ("curves.png", "confusion.png", "cam.png")


def check_cards(root):
    """Cards, registry and tables tell the same; weights are the published."""
    registry = cards.read_registry()
    folders = sorted(p.parent for p in root.glob("models/*/metrics.json"))
    assert [folder.name for folder in folders] == sorted(registry)
    metrics = []
    for folder in folders:
        metrics.append(json.loads((folder / "metrics.json").read_text("utf-8")))
        card = cards.Card.from_folder(folder)
        assert card == registry[folder.name], (
            "Run keras-dropblock-publish --refresh"
        )
        _check_card(folder, card, metrics[-1])
    for page, prefix in (("models/README.md", ""), ("README.md", "models/")):
        table = f"<!-- models -->\n\n{pages.table(metrics, prefix)}\n<!-- /mod"
        assert table in (root / page).read_text("utf-8"), (
            "Run keras-dropblock-publish --refresh"
        )


def _check_card(folder, card, metrics):
    assert metrics["name"] == folder.name
    recipe = Recipe.from_toml(folder / "recipe.toml")
    assert recipe == card.recipe and recipe.model == metrics["model"]
    assert recipe.seed == metrics["weights"]["seed"] == metrics["seeds"][0]
    page = (folder / "README.md").read_text("utf-8")
    assert page == pages.card_page(metrics, recipe)
    for picture in PICTURES:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in page
    runs = metrics["runs"]
    assert metrics["n"] == len(runs) == len({*metrics["seeds"]})
    assert [run["seed"] for run in runs] == metrics["seeds"]
    for key, score in metrics["scores"].items():
        mean = sum(run[key] for run in runs) / len(runs)
        assert abs(score["mean"] - mean) < 1e-9
        assert (score["std"] is None) == (len(runs) == 1)
    assert re.fullmatch("[0-9a-f]{40}", metrics["training"]["commit"])
    if metrics["weights"]["url"] is None:
        path = card.find_weights()
        assert path.stat().st_size == metrics["weights"]["bytes"]
