"""Fuzz tests of cards and registries from untrusted sources."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import Group, altered, damaged, pick, several
from keras_dropblock import data, files, hub, models
from keras_dropblock.errors import WeightsError
from keras_dropblock.hub import registry, timm, weights

pytestmark = pytest.mark.fuzz
CARDS = [
    path.read_text()
    for path in sorted(
        (pathlib.Path(__file__).parents[1] / "models").glob("*/card.json")
    )
]
KEYS = [*json.loads(CARDS[0])]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """No weights are found in other folders, and none are downloaded."""
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_DROPBLOCK_MODELS", raising=False)


def check(card):
    """An accepted card must be usable and survive a round trip."""
    assert hub.Card.from_dict(card.to_dict()) == card
    height, width, channels = card.image_shape
    assert min(height, width, channels) >= 1
    image = card.normalize(np.zeros((1, 2, 2, channels), "uint8"))
    assert image.shape == (1, 2, 2, channels)
    assert all(isinstance(name, str) for name in card.class_names)
    json.dumps(card.to_dict(), allow_nan=False)


def from_text(text):
    check(hub.Card.from_text(text, "card.json"))


def from_timm(text):
    try:
        content = files.parse_json(text)
    except ValueError:
        return  # its caller reports this
    check(timm.card(content, "config.json"))


def from_folder(folder):
    check(hub.Card.from_folder(folder))


def ask_registry():
    """Call every function of the registry."""
    for card in registry.cards().values():
        check(card)
    hub.list_models()
    assert isinstance(registry.unknown("cifar10"), WeightsError)
    try:
        registry.for_network("cifar10", "WRN-16-1")
    except WeightsError:
        pass


def test_a_card_is_read_or_raises_one_of_our_errors(record_property):
    group = Group("cards: texts", record_property)

    def run(label, text, derived):
        group.case(label, WeightsError, from_text, text, derived=derived)

    for i in range(400):
        rng = np.random.default_rng([1, i])
        text = damaged(rng, pick(rng, CARDS).encode()).decode("latin-1")
        run(f"damaged {i}", text, True)
    for i in range(900):
        rng = np.random.default_rng([2, i])
        content = altered(rng, json.loads(pick(rng, CARDS)))
        run(f"altered {i}", json.dumps(content), True)
    for nesting in ("[", '{"a":'):
        run("nested", nesting * 100_000, False)
    run("digits", "9" * 5000, False)

    @several(200)
    @given(st.recursive(st.none() | st.floats() | st.text(), trees))
    def of_anything(tree):
        run(repr(tree), json.dumps(tree), False)

    of_anything()
    group.close(at_least=1500)


def trees(inner):
    keys = st.sampled_from([*KEYS, "sha256", "mean", "image_size"])
    return st.lists(inner) | st.dictionaries(keys, inner)


def test_a_folder_is_read_or_raises_one_of_our_errors(
    tmp_path, record_property
):
    group = Group("cards: folders", record_property)
    for i in range(500):
        rng = np.random.default_rng([3, i])
        content = damaged(rng, pick(rng, CARDS).encode())
        (tmp_path / "card.json").write_bytes(content)
        group.case(f"{i}", WeightsError, from_folder, tmp_path, derived=True)
    group.close(at_least=500)


def test_a_registry_is_read_or_raises_one_of_our_errors(
    tmp_path, record_property, monkeypatch
):
    group = Group("cards: registries", record_property)
    content = registry.REGISTRY.read_bytes()
    entries = json.loads(content)
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "published.json")
    for i in range(600):
        rng = np.random.default_rng([4, i])
        changed = damaged(rng, content)
        if i % 2:
            changed = json.dumps(altered(rng, entries)).encode()
        registry.REGISTRY.write_bytes(changed)
        group.case(f"{i}", WeightsError, ask_registry, derived=True)
    group.close(at_least=600)


def test_a_changed_card_loads_a_model_or_raises_one_of_our_errors(
    tmp_path, record_property
):
    group = Group("cards: loading", record_property, seconds=60)
    folder = tmp_path / "wrn_10_1_toy"
    folder.mkdir()
    file = folder / "model.weights.h5"
    models.WRN(10, 1, num_classes=2, input_shape=(8, 8, 3)).save_weights(file)
    score = {"mean": 0.5, "std": None}
    card = hub.Card(
        name=folder.name,
        preprocessing=data.Preprocessing((8, 8), (1.0,) * 3, (2.0,) * 3),
        class_names=("a", "b"),
        network="WRN-10-1",
        builder="WRN",
        arguments={
            "depth": 10,
            "width": 1,
            "num_classes": 2,
            "input_shape": [8, 8, 3],
            "keep_prob": 1.0,
        },
        metrics={
            "parameters": 77_330,
            "n": 1,
            "scores": dict.fromkeys(("accuracy", "top5", "nll", "ece"), score),
            "weights": {
                "sha256": weights.digest(file),
                "bytes": file.stat().st_size,
                "url": None,
            },
        },
    ).to_dict()
    for i in range(150):
        rng = np.random.default_rng([5, i])
        changed = dict(card)
        if i % 3 == 0:
            key = pick(rng, ["preprocessing", "class_names", "metrics", "name"])
            changed[key] = altered(rng, card[key])
        elif i % 3 == 1:
            changed["arguments"] = altered(rng, card["arguments"])
        else:
            changed["arguments"] = card["arguments"] | {
                "depth": int(pick(rng, [10, 16, 22, 940])),
                "width": int(pick(rng, [1, 2, 91])),
            }
        (folder / "card.json").write_text(json.dumps(changed))
        group.case(f"{i}", WeightsError, hub.load, folder, derived=True)
    group.close(at_least=150)


def test_real_cards_are_accepted():
    for text in CARDS:
        from_text(text)
    assert len(CARDS) >= 1


def test_a_config_of_timm_is_read_or_raises_one_of_our_errors(record_property):
    group = Group("cards: configs of timm", record_property)
    valid = {
        "architecture": "wide_resnet50_2",
        "num_classes": 3,
        "label_names": ["ant", "bee", "cat"],
        "model_args": {"num_classes": 3},
        "pretrained_cfg": {
            "tag": "tv_in1k",
            "input_size": [3, 176, 176],
            "test_input_size": [3, 224, 224],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "test_crop_pct": 0.965,
            "crop_mode": "center",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "license": "bsd-3-clause",
        },
    }
    from_timm(json.dumps(valid))
    for i in range(1500):
        content = altered(np.random.default_rng([7, i]), valid)
        text = json.dumps(content)
        group.case(f"{i}", WeightsError, from_timm, text, derived=True)
    group.close(at_least=1500)
