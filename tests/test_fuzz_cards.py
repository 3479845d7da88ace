"""Cards and registries by the thousand: what a stranger's folder may say."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import Group, altered, damaged, pick, several
from keras_dropblock import models
from keras_dropblock.models import cards, weights
from keras_dropblock.models.card_rules import KEYS
from keras_dropblock.recipe_text import parse
from keras_dropblock.recipes import Recipe, RecipeError

pytestmark = pytest.mark.fuzz
ALLOWED = (weights.WeightsError, RecipeError)
FOLDERS = sorted(
    path.parent
    for path in (pathlib.Path(__file__).parents[1] / "models").glob(
        "*/metrics.json"
    )
)
CARDS = [
    (
        (folder / "metrics.json").read_text(),
        (folder / "recipe.toml").read_text(),
    )
    for folder in FOLDERS
]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """No weights are found elsewhere, and none are fetched."""
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_DROPBLOCK_MODELS", raising=False)


def check(card):
    """What is accepted must be fit for use, and survive a round trip."""
    assert cards.Card.from_entry(card.name, card.entry) == card
    height, width, channels = card.image_shape
    assert min(height, width, channels) >= 1
    image = card.normalise(np.zeros((1, 2, 2, channels), "uint8"))
    assert image.shape == (1, 2, 2, channels)
    assert all(isinstance(name, str) for name in card.class_names)
    json.dumps(card.entry, allow_nan=False)


def from_texts(metrics, recipe):
    check(cards.Card.from_texts(metrics, recipe))


def from_folder(folder):
    check(cards.Card.from_folder(folder))


def registry():
    """All that the package asks the registry."""
    for card in cards.read_registry().values():
        check(card)
    cards.published()
    assert isinstance(cards.unknown("cifar10"), weights.WeightsError)
    try:
        cards.of_network("cifar10", "WRN-16-1")
    except weights.WeightsError:
        pass


def test_cards_end_in_a_card_or_in_errors_of_ours(tmp_path, record_property):
    group = Group("cards: texts", record_property)

    def run(label, metrics, recipe, derived):
        group.case(label, ALLOWED, from_texts, metrics, recipe, derived=derived)

    for i in range(400):
        rng = np.random.default_rng([1, i])
        texts = list(pick(rng, CARDS))
        which = i % 2
        texts[which] = damaged(rng, texts[which].encode()).decode("latin-1")
        run(f"damaged {i}", *texts, True)
    for i in range(700):
        rng = np.random.default_rng([2, i])
        metrics, recipe = pick(rng, CARDS)
        run(
            f"altered {i}",
            json.dumps(altered(rng, loads(metrics))),
            recipe,
            True,
        )
    for nesting in ("[", '{"a":'):
        run("nested", nesting * 100_000, CARDS[0][1], False)
    run("digits", "9" * 5000, CARDS[0][1], False)

    @several(200)
    @given(st.recursive(st.none() | st.floats() | st.text(), trees))
    def of_anything(tree):
        run(repr(tree), json.dumps(tree), CARDS[0][1], False)

    of_anything()
    group.close(at_least=1300)


def loads(text):
    """A card without what no reader looks at."""
    metrics = json.loads(text)
    return {key: metrics[key] for key in ("name", *KEYS)}


def trees(inner):
    keys = st.sampled_from(["name", *KEYS, "sha256", "mean"])
    return st.lists(inner) | st.dictionaries(keys, inner)


def test_folders_end_in_a_card_or_in_errors_of_ours(tmp_path, record_property):
    group = Group("cards: folders", record_property)
    run_json = json.dumps(
        {"image_shape": [16, 16, 3], "class_names": ["a", "b"], "sessions": []}
    )
    contents = [
        {
            "metrics.json": metrics.encode(),
            "recipe.toml": recipe.encode(),
        }
        for metrics, recipe in CARDS
    ] + [{"run.json": run_json.encode(), "recipe.toml": CARDS[0][1].encode()}]
    for number in range(len(contents)):
        (tmp_path / f"card{number}").mkdir()
    for i in range(500):
        rng = np.random.default_rng([3, i])
        number = int(rng.integers(len(contents)))
        folder, files = tmp_path / f"card{number}", dict(contents[number])
        name = pick(rng, sorted(files))
        if name == "run.json" and rng.random() < 0.7:
            files[name] = json.dumps(
                altered(rng, json.loads(run_json))
            ).encode()
        else:
            files[name] = damaged(rng, files[name])
        for each, content in files.items():
            (folder / each).write_bytes(content)
        group.case(f"{i}", ALLOWED, from_folder, folder, derived=True)
    group.close(at_least=500)


def test_registries_end_in_answers_or_in_errors_of_ours(
    tmp_path, record_property, monkeypatch
):
    group = Group("cards: registries", record_property)
    content = cards.REGISTRY.read_bytes()
    entries = json.loads(content)
    monkeypatch.setattr(cards, "REGISTRY", tmp_path / "published.json")
    for i in range(600):
        rng = np.random.default_rng([4, i])
        changed = damaged(rng, content)
        if i % 2:
            changed = json.dumps(altered(rng, entries)).encode()
        cards.REGISTRY.write_bytes(changed)
        group.case(f"{i}", ALLOWED, registry, derived=True)
    group.close(at_least=600)


def test_loading_a_changed_card_ends_in_a_model_or_in_errors_of_ours(
    tmp_path, record_property
):
    group = Group("cards: loading", record_property, seconds=60)
    folder = tmp_path / "wrn_10_1_toy"
    folder.mkdir()
    file = folder / "model.weights.h5"
    models.WRN(10, 1, num_classes=2, input_shape=(8, 8, 3)).save_weights(file)
    recipe = Recipe(model="WRN-10-1", mean=(1.0,) * 3, std=(2.0,) * 3).to_toml()
    score = {"mean": 0.5, "std": None}
    metrics = {
        "name": folder.name,
        "image_shape": [8, 8, 3],
        "class_names": ["a", "b"],
        "parameters": 77_330,
        "n": 1,
        "scores": dict.fromkeys(("accuracy", "top5", "nll", "ece"), score),
        "weights": {
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": None,
        },
    }
    for i in range(150):
        rng = np.random.default_rng([5, i])
        changed, text = metrics, recipe
        if i % 3 == 0:
            key = pick(rng, ["image_shape", "class_names", "weights", "name"])
            changed = metrics | {key: altered(rng, metrics[key])}
        elif i % 3 == 1:
            lines = text.splitlines()
            # The network's line, and those of its options.
            at = int(rng.choice([0, 0, 0, *range(2, 6), 9, 10, 11]))
            lines[at] = damaged(rng, lines[at].encode()).decode("latin-1")
            text = "\n".join(lines)
        else:
            name = f"WRN-{pick(rng, [10, 16, 22, 940])}-{pick(rng, [1, 2, 91])}"
            text = recipe.replace("WRN-10-1", name)
        (folder / "metrics.json").write_text(json.dumps(changed))
        (folder / "recipe.toml").write_text(text)
        group.case(f"{i}", ALLOWED, models.load, folder, derived=True)
    group.close(at_least=150)


def test_real_cards_are_accepted():
    for texts in CARDS:
        from_texts(*texts)
        parse(texts[1], "card")
    assert len(CARDS) >= 1
