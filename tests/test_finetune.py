"""The fine-tuning notebook runs without changes."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest

import small_runs
from keras_dropblock import data, models
from keras_dropblock.hub import registry, weights

NOTEBOOK = pathlib.Path(__file__).parents[1] / "training" / "finetune.ipynb"
NAME = "wrn_16_1_cifar10_dropblock"


def cells():
    """The sources of the code cells, which must have no outputs."""
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in code)
    return ["".join(cell["source"]) for cell in code]


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


@pytest.fixture
def few_digits(monkeypatch):
    """128 of the digits for training, 16 for the test."""
    pytest.importorskip("sklearn")
    whole = data.load("digits")
    few = data.ArrayDataset(
        {
            split: tuple(array[:count] for array in whole.arrays[split])
            for split, count in (("train", 128), ("test", 16))
        },
        whole.class_names,
    )
    monkeypatch.setattr(data, "load", lambda dataset: few)


def values(layer):
    return [keras.ops.convert_to_numpy(v) for v in layer.weights]


def test_frozen_groups_keep_every_bit_and_the_others_learn(
    small_stand_in, few_digits, capsys
):
    load, *cells_after = cells()
    names = {}
    exec(load.replace("EPOCHS = 8", "EPOCHS = 2"), names)  # noqa: S102
    layers = {layer.name: layer for layer in names["tuned"].layers}
    before = {name: values(layer) for name, layer in layers.items()}
    exec("\n".join(cells_after), names)  # noqa: S102
    for name, layer in layers.items():
        same = [
            np.array_equal(a, b)
            for a, b in zip(before[name], values(layer), strict=True)
        ]
        if name == "stem" or name.startswith(("group1_", "group2_")):
            weights_alone = [
                s
                for s, v in zip(same, layer.weights, strict=True)
                if v.name != "keep_prob"
            ]
            assert weights_alone and all(weights_alone), name
        elif name in ("group3_block1", "bn"):
            assert not all(same), name
    losses = names["history"].history["loss"]
    assert losses[-1] < losses[0]
    assert names["history"].history["keep_prob"] == pytest.approx([0.95, 0.9])
    assert len(names["predictions"]) == 8
    assert "predicted" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(
    NAME not in registry.cards(), reason=f"{NAME} is not published yet"
)
def test_the_published_model_learns_digits():
    pytest.importorskip("sklearn")
    names = {}
    exec("\n".join(cells()), names)  # noqa: S102
    assert names["history"].history["val_accuracy"][-1] > 0.9


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
