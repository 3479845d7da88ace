"""Studies write tables, plots and descriptions of one or several networks."""

import csv
import json

import keras
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from keras_dropblock import models
from keras_dropblock.analysis import charts, studies, uncertain_study
from keras_dropblock.analysis.subjects import Settings, Subject
from keras_dropblock.cli import analyze
from keras_dropblock.errors import WeightsError
from small_runs import card, small, write_untrained

SHAPE = (16, 16, 3)
NAMES = ("a", "b", "c")
SLOW = [pytest.mark.slow]  # 390 evaluations


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def subjects():
    """Two seeds with DropBlock under one label, and one without."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, *SHAPE), "uint8")
    labels = rng.integers(0, 3, 30)
    found = []
    for seed, keep_prob in ((0, 0.9), (1, 0.9), (0, 1.0)):
        keras.utils.set_random_seed(seed)
        built = card(
            SHAPE,
            NAMES,
            builder="WRN",
            arguments={
                "depth": 10,
                "width": 1,
                "num_classes": 3,
                "input_shape": list(SHAPE),
                "keep_prob": keep_prob,
                "block_size": 3,
            },
        )
        found.append(
            Subject(
                name=f"{keep_prob}_{seed}",
                label=f"keep_prob {keep_prob}",
                model=built.build(),
                normalize=built.normalize,
                images=images,
                labels=labels,
                class_names=NAMES,
                unknown={"noise": images[:10]},
            )
        )
    return found


SETTINGS = Settings(
    keep_probs=(1.0, 0.8), block_sizes=(1, 3), samples=3, about={"x": 1}
)


def test_rows_that_repeat_become_a_mean_and_a_deviation():
    rows = [
        {"label": label, "x": x, "y": y}
        for label, x, y in (
            ("p", 2, 5.0),
            ("p", 1, 1.0),
            ("p", 1, 3.0),
            ("q", 1, np.nan),
            ("q", 2, 7.0),
        )
    ]
    found = charts.series(rows, "x", "y")
    assert found["p"] == ([1, 2], [2.0, 5.0], [np.sqrt(2), 0.0])
    assert found["q"] == ([2], [7.0], [0.0])
    words = [{**row, "x": "ba"[row["x"] - 1]} for row in rows]
    assert charts.series(words, "x", "y")["p"][0] == ["a", "b"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=SLOW if name == "robustness" else [])
        for name in sorted(studies.STUDIES)
    ],
)
def test_a_study_has_rows_of_each_subject(name, subjects, tmp_path):
    studies.STUDIES[name](subjects, tmp_path, SETTINGS)
    rows = read(tmp_path / f"{name}.csv")
    assert {row["name"] for row in rows} == {x.name for x in subjects}
    about = json.loads((tmp_path / f"{name}.json").read_text())
    assert about["images"] == 30 and about["x"] == 1 and about["title"]
    assert about["n"] == {"keep_prob 0.9": 2, "keep_prob 1.0": 1}
    picture = (tmp_path / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    expected = {
        "maps": 3,
        "redundancy": 3 * 3 * 2,  # groups and methods
        "blocks": 3 * (1 + 3),
        "robustness": 3 * 2 * 2,  # block sizes and keep_probs
        "uncertainty": 3 * 2 + 2,  # Monte Carlo only where layers drop
    }
    assert len(rows) == expected[name]
    if name == "robustness":
        assert len(read(tmp_path / "corruptions.csv")) == 3 * (1 + 25)
        assert len(read(tmp_path / "occlusion.csv")) == 3 * (1 + 4)
    if name == "uncertainty":
        assert {row["noise_images"] for row in rows} == {"10"}
        assert "every second test image" in about["temperature_fitted_on"]


def test_the_temperature_is_not_fitted_on_images_that_are_scored(subjects):
    subject = subjects[0]
    fit, scored = uncertain_study.divided(subject)
    assert np.array_equal(fit[0], subject.images[::2])
    assert np.array_equal(scored[1], subject.labels[1::2])
    validation = subject.images[:4], subject.labels[:4]
    other = Subject(**{**vars(subject), "validation": validation})
    fit, scored = uncertain_study.divided(other)
    assert fit is validation and len(scored[0]) == 30


def test_channels_first_networks_get_their_axes(subjects):
    keras.config.set_image_data_format("channels_first")
    model = models.WRN(10, 1, input_shape=(3, 16, 16))
    subject = Subject(**{**vars(subjects[0]), "model": model})
    assert subject.inputs(subject.images).shape == (30, 3, 16, 16)


@pytest.fixture
def command(parsed_flags):
    def run(*sources, **values):
        with flagsaver.flagsaver(**values):
            analyze.analyze(sources)

    return run


def test_the_command_refuses_what_it_cannot_study(command, tmp_path):
    with pytest.raises(app.UsageError, match="At least one run or model"):
        command()
    with pytest.raises(app.UsageError, match="--what must be some of maps,"):
        command("x", what=["maps", "speed"])
    with pytest.raises(app.UsageError, match="--out must be given"):
        command("wrn_16_1_cifar10")
    with pytest.raises(app.UsageError, match="--keep_probs: could not"):
        command("x", out="y", keep_probs=["1", "a"])
    with pytest.raises(WeightsError, match="no_such_model"):
        command("no_such_model", out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert flags.FLAGS["images"].value == 1000


def test_the_command_on_runs(command, npz, tmp_path):
    runs = [tmp_path / "first", tmp_path / "second"]
    for seed, run in enumerate(runs):
        recipe = small(npz, f"seed={seed}")
        write_untrained(run, recipe, SHAPE, ("a", "b", "c", "d"))
    command(str(runs[0]), what=["maps"])
    assert (runs[0] / "analysis" / "maps.png").is_file()
    out = str(tmp_path / "out")
    command(*map(str, runs), what=["blocks"], out=out)
    about = json.loads((tmp_path / "out" / "blocks.json").read_text())
    assert about["n"] == {"first": 2} and about["backend"] and about["date"]
