"""How much of the maps of detectors and segmentations lies on objects."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

import keras_dropblock as kdb
import mask_folders
from keras_dropblock.analysis import charts, objects, studies, subjects
from keras_dropblock.cli import analyze
from keras_dropblock.data import annotated
from keras_dropblock.errors import WeightsError
from keras_dropblock.training import plan, trained_networks

pytest.importorskip("tensorflow")  # reads images and masks
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def squares(count):
    """Masks with a square, and images that are bright there."""
    masks = np.zeros((count, 16, 24), bool)
    for mask, (top, left) in zip(
        masks, RNG.integers(0, 8, (count, 2)), strict=True
    ):
        mask[top : top + 6, left : left + 6] = True
    images = np.where(masks[..., None], 200, 0) + np.zeros(3)
    return images.astype("uint8"), masks


def network(channels):
    """Logits of two classes from feature maps.

    Channel 0 of the feature maps is the brightness, channel 1 is constant.

    Args:
        channels: weights of the two channels in the logit of class 1.
    """
    inputs = keras.Input((16, 24, 3))
    features = keras.layers.Conv2D(2, 1, name="features")
    logits = keras.layers.Conv2D(2, 1, name="logits")
    model = keras.Model(inputs, logits(features(inputs)))
    kernel = np.zeros((1, 1, 3, 2))
    kernel[0, 0, 0, 0] = 1
    features.set_weights([kernel, np.array([0, 1])])
    kernel = np.zeros((1, 1, 2, 2))
    kernel[0, 0, :, 1] = channels
    logits.set_weights([kernel, np.array([0.5, 0])])
    return model


def subject(model, masks, images, name="a", label="a"):
    return objects.SceneSubject(
        name=name,
        label=label,
        model=model,
        normalize=lambda pixels: (pixels / 200).astype("float32"),
        images=images,
        labels=np.zeros(len(images), int),
        class_names=("ground", "square"),
        layer="features",
        objects=(
            objects.Objects(
                "square", objects.predicted_pixels(1), lambda: masks
            ),
        ),
    )


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_map_of_the_object_is_inside_and_a_constant_one_is_as_the_image(
    tmp_path,
):
    images, masks = squares(3)
    studies.study_maps(
        [
            subject(network((1, 0)), masks, images, "bright", "bright"),
            subject(network((0, 1)), masks, images, "constant", "constant"),
        ],
        tmp_path,
        subjects.Settings(),
    )
    bright, constant = read(tmp_path / "maps.csv")
    assert float(bright["inside"]) == pytest.approx(1)
    assert float(bright["area"]) == pytest.approx(36 / 384)
    assert float(constant["inside"]) == pytest.approx(36 / 384)
    assert float(bright["covered"]) == pytest.approx(36 / 384)
    for name in ("maps.png", "inside.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def with_an_absent_class_first(images, masks):
    """A subject whose first class covers less than 1 % of each image."""
    small = np.zeros_like(masks)
    small[:, 0, :3] = True  # 3 of 384 pixels
    usual = subject(network((1, 0)), masks, images)
    absent = objects.Objects(
        "ground", objects.predicted_pixels(0), lambda: small
    )
    return dataclasses.replace(usual, objects=(absent, *usual.objects))


def test_the_first_class_that_is_on_an_image_is_drawn(tmp_path, monkeypatch):
    images, masks = squares(3)
    drawn = []

    def draw(images, names, networks, path, masks):
        drawn.append((names, networks[0][1].shape, masks.sum()))
        charts_drawn(images, names, networks, path, masks)

    charts_drawn = charts.draw_maps
    monkeypatch.setattr(charts, "draw_maps", draw)
    studied = with_an_absent_class_first(images, masks)
    studies.study_maps([studied], tmp_path, subjects.Settings())
    assert drawn == [(["square"] * 3, (3, 16, 24), 3 * 36)]
    assert [row["object"] for row in read(tmp_path / "maps.csv")] == ["square"]
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_classes_without_any_image_are_an_error_that_names_them(tmp_path):
    images, masks = squares(2)
    none = with_an_absent_class_first(images, np.zeros_like(masks))
    with pytest.raises(
        ValueError, match="at least 1 % of an image.* 2 images .*ground, square"
    ):
        studies.study_maps([none], tmp_path, subjects.Settings())


def test_runs_with_one_label_are_averaged():
    rows = [
        {"label": label, "name": str(i), "object": "x", "area": area, "y": 1}
        for i, (label, area) in enumerate(
            [("p", 0.1), ("p", 0.3), ("p", np.nan), ("q", 0.5)]
        )
    ]
    p, q = subjects.over_runs(rows, ("object",))
    assert p["n"] == 3 and p["area"] == pytest.approx(0.2)
    assert p["area_std_over_runs"] == pytest.approx(0.02**0.5)
    assert p["object"] == "x" and "name" not in p and p["y"] == 1
    assert q["area"] == 0.5 and np.isnan(q["area_std_over_runs"])


def test_pixels_and_anchors_of_other_classes_do_not_count():
    logits = np.array([[[[2.0, 1.0], [0.5, 3.0]]]], "float32")
    score = objects.predicted_pixels(1)(keras.ops.convert_to_tensor(logits))
    assert keras.ops.convert_to_numpy(score).tolist() == [3]
    anchors = np.array([[[1.0, -9.0], [-4.0, 0.0], [-2.0, 0.0]]], "float32")
    outputs = {"cls_logits": keras.ops.convert_to_tensor(anchors)}
    score = objects.detected_anchors(0)(outputs)
    # The probabilities are 0.73, 0.018 and 0.12.
    assert keras.ops.convert_to_numpy(score).tolist() == [-1]


def test_objects_are_where_their_masks_or_else_their_boxes_are():
    boxes = np.float32([[0, 0, 4, 4], [2, 4, 8, 12]])
    mask = np.zeros((8, 12), "uint8")
    mask[3, 5] = 2
    known = {
        "size": (8, 12),
        "boxes": boxes,
        "classes": np.array([1, 0]),
        "crowd": np.zeros(2, bool),
        "area": np.ones(2),
    }
    rows = annotated.BoxRows(
        [
            annotated.Objects(**known),
            annotated.Objects(**known, instances=lambda: mask),
        ],
        (16, 24),
    )
    by_box, by_mask = rows.masks(0)
    assert by_box.sum() == 12 * 16 and by_box[4:, 8:].all()
    assert by_mask.sum() == 4 and by_mask[6:8, 10:12].all()
    assert not rows.masks(1)[1].any() and rows.masks(1)[0, :8, :8].all()


def test_penn_fudan_has_masks_inside_of_its_boxes(penn_fudan):
    options = {"image_size": 128, "test_split": "train[:6]"}
    dataset = kdb.data.load(penn_fudan, labels="boxes", **options)
    _, rows = dataset.spaced("test", 3)
    masks = rows.masks(0) | rows.masks(1)
    boxes = annotated.BoxRows(
        [
            annotated.Objects(o.size, o.boxes, o.classes, o.crowd, o.area)
            for o in rows.objects
        ],
        rows.frame,
    )
    boxes = boxes.masks(0) | boxes.masks(1)
    assert len(masks) == 3
    for mask, box in zip(masks, boxes, strict=True):
        assert 0.3 < mask.sum() / box.sum() < 0.95
        assert (mask & box).sum() > 0.97 * mask.sum()


# --- the command


def recipe(root, *changes):
    return kdb.Recipe().override(
        [
            "task=segmentation",
            f"dataset=masks:{root}",
            "image_size=[64, 96]",
            "model=ResNet-18-0.125",
            "head_filters=8",
            "ignored_labels=[11]",
            *changes,
        ]
    )


def write_untrained(workdir, recipe):
    """The files of a run of one epoch, with random weights."""
    keras.utils.set_random_seed(recipe.seed)
    resolved = plan.resolve(recipe, name=workdir.name)
    workdir.mkdir()
    resolved.recipe.write(workdir / "recipe.toml")
    (workdir / "run.json").write_text("{}")
    resolved.card.write(workdir)
    resolved.card.build().save_weights(workdir / "model.weights.h5")
    return str(workdir)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds with DropBlock, and one without."""
    root = tmp_path_factory.mktemp("masks")
    mask_folders.write(root)
    changes = [["keep_prob=0.9", f"seed={i}"] for i in (0, 1)] + [[]]
    return [
        write_untrained(root / f"run{i}", recipe(root, *change))
        for i, change in enumerate(changes)
    ]


def test_the_command_compares_seeds_with_and_without_dropblock(
    runs, tmp_path, parsed_flags
):
    with flagsaver.flagsaver(out=str(tmp_path)):
        analyze.analyze(runs)
    rows = read(tmp_path / "maps.csv")
    found = {(row["name"], row["object"]) for row in rows}
    assert found == {
        (f"run{i}", x) for i in range(3) for x in ("ground", "square")
    }
    for row in rows:
        assert row["images"] == "3"
        if row["object"] == "square":
            assert 0.05 < float(row["covered"]) < 0.3
    averages = read(tmp_path / "spread.csv")
    assert [(row["label"], row["n"]) for row in averages] == [
        ("run0", "2"),
        ("run0", "2"),
        ("run2", "1"),
        ("run2", "1"),
    ]
    about = json.loads((tmp_path / "spread.json").read_text())
    assert about["n"] == {"run0": 2, "run2": 1} and about["images"] == 3
    assert not (tmp_path / "blocks.csv").exists()


def test_objects_and_layers_can_be_chosen(runs, tmp_path, parsed_flags):
    flags = {"objects": ["square"], "layer": "head_relu1", "what": ["maps"]}
    with flagsaver.flagsaver(out=str(tmp_path), images=2, **flags):
        analyze.analyze(runs[:1])
    (row,) = read(tmp_path / "maps.csv")
    assert row["object"] == "square" and row["images"] == "2"


def test_what_cannot_be_studied_is_refused(runs, tmp_path, parsed_flags):
    out = {"out": str(tmp_path / "out")}
    with flagsaver.flagsaver(**out, what=["maps", "blocks"]):
        with pytest.raises(WeightsError, match="--what must be maps for"):
            analyze.analyze(runs[:1])
    with flagsaver.flagsaver(**out, objects=["cat"]):
        with pytest.raises(WeightsError, match="some of ground, square. Rec"):
            analyze.analyze(runs[:1])
    with flagsaver.flagsaver(**out, layer="group9"):
        with pytest.raises(WeightsError, match="must name exactly one layer"):
            analyze.analyze(runs[:1])


def test_every_class_of_camvid_has_masks(camvid, tmp_path):
    changes = ["image_size=[96, 128]", "model=ResNet-18-0.125"]
    workdir = write_untrained(tmp_path / "run", recipe(camvid, *changes))
    subject = trained_networks.read(workdir, {}, images=20)
    names = [x.name for x in subject.objects]
    assert len(names) == 11 and {"car", "pedestrian"} < {*names}
    covered = np.array([x.find().mean() for x in subject.objects])
    assert 0.9 < covered.sum() < 1  # the rest is not labeled
    # As counted with Pillow in the files of full size.
    assert covered[names.index("road")] == pytest.approx(0.261, abs=0.005)
