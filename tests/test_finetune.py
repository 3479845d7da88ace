"""The fine-tuning notebook runs without changes."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

import keras_dropblock as kdb
import small_runs
from keras_dropblock import models
from keras_dropblock.hub import registry, weights

NOTEBOOK = pathlib.Path(__file__).parents[1] / "notebooks" / "finetune.md"
NAME = "wrn_16_1_cifar10_dropblock"


def cells():
    """The sources of the code cells."""
    text = NOTEBOOK.read_text("utf-8")
    return re.findall(r"^```{code-cell}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def small_stand_in(tmp_path, monkeypatch):
    """A small untrained network under the published name."""
    card = dataclasses.replace(
        small_runs.card(class_names=[f"class {i}" for i in range(10)]),
        name=NAME,
        network="WRN-10-1",
        builder="WRN",
        arguments={
            "depth": 10,
            "width": 1,
            "keep_prob": 0.9,
            "block_size": 3,
            "num_classes": 10,
        },
    )
    file = tmp_path / NAME / "model.weights.h5"
    file.parent.mkdir()
    card.build().save_weights(file)
    score = {"mean": 0.5, "std": None}
    metrics = {
        "parameters": 77_850,
        "n": 1,
        "scores": dict.fromkeys(("accuracy", "top5", "nll", "ece"), score),
        "weights": {"sha256": weights.digest(file), "bytes": 1, "url": None},
    }
    card = dataclasses.replace(card, metrics=metrics)
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "published.json")
    registry.REGISTRY.write_text(json.dumps({NAME: card.to_dict()}))
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(tmp_path))


def test_frozen_groups_keep_every_bit_and_the_others_learn(
    small_stand_in, capsys, tmp_path, monkeypatch
):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    text = "\n".join(cells())
    for old, new in (
        ("EPOCHS = 8", "EPOCHS = 2"),
        ("PER_CLASS = 60", "PER_CLASS = 15"),
        ("model=WRN-16-1", "model=WRN-10-1"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    names = {}
    exec(text, names)  # noqa: S102
    source, tuned = kdb.load(NAME), names["tuned"]
    for layer in source.layers[:-1]:
        pairs = zip(
            layer.weights, tuned.get_layer(layer.name).weights, strict=True
        )
        same = [np.array_equal(a, b) for a, b in pairs if a.name != "keep_prob"]
        if layer.name.startswith(("stem", "group1", "group2")):
            assert all(same), layer.name
        elif same:
            assert not all(same), layer.name
    losses = [float(row["loss"]) for row in names["history"]]
    assert losses[-1] < losses[0]
    keep_probs = [float(row["keep_prob"]) for row in names["history"]]
    assert keep_probs == pytest.approx([0.975, 0.95])
    assert tuned.card.preprocessing.mean == source.card.preprocessing.mean
    assert tuned.card.license == source.card.license
    assert capsys.readouterr().out.count("in truth digit") == 10
    assert kdb.load("my_images.keras").card.class_names[3] == "digit 3"
    assert (names["path"] / "saved_model.pb").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    NAME not in registry.cards(), reason=f"{NAME} is not published yet"
)
def test_the_published_model_learns_digits(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("\n".join(cells()), names)  # noqa: S102
    assert names["scores"]["accuracy"] > 0.9


def test_a_summary_has_one_row_per_block_and_80_columns():
    lines = []
    network = models.WRN(16, 1, keep_prob=0.9)
    network.summary(print_fn=lines.append, line_length=80)
    text = "\n".join(lines)
    assert max(map(len, text.splitlines())) <= 80
    for name in (
        "stem",
        *(f"group{g}_block{b}" for g in (1, 2, 3) for b in "12"),
    ):
        assert text.count(name) == 1
    assert "Trainable params: 175,066" in text
    assert len(text.splitlines()) <= 50
