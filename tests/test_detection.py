"""RetinaNet and DeepLab of KerasHub: networks, and runs from end to end.

These tests need the extra `vision`: see `make test-vision`.
"""

import csv
import shutil

import keras
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
tf = pytest.importorskip("tensorflow")

import keras_dropblock as kdb  # noqa: E402
import served  # noqa: E402
from keras_dropblock import tasks  # noqa: E402
from keras_dropblock.data import shapes  # noqa: E402
from keras_dropblock.tasks import matching, suppression, transfer  # noqa: E402
from keras_dropblock.training import compilation, plan  # noqa: E402
from saved_graphs import answers_without_this_package  # noqa: E402

H, W = 64, 96


def backbone(**options):
    options = {"input_shape": (H, W, 3), "num_classes": 1, **options}
    return kdb.models.ResNet(18, 0.125, **options)


def detector(num_classes=3, **options):
    return tasks.RetinaNet(
        backbone(keep_prob=0.9, block_size=3), num_classes, **options
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return detector()


def images(count=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, H, W, 3)).astype("float32")


TARGETS = {
    "boxes": np.array(
        [[[8, 8, 40, 40], [10, 50, 60, 90]], [[20, 20, 52, 60], [0, 0, 0, 0]]],
        "float32",
    ),
    "labels": np.array([[0, 2], [1, -1]], "int32"),
}


# --- the network


def test_anchors_cover_32_to_512_pixels(model):
    anchors = model.anchor_generator(np.zeros((1, 640, 640, 3), "float32"))
    assert [*anchors] == [f"P{level}" for level in range(3, 8)]
    for size, boxes in zip(
        (32, 64, 128, 256, 512), anchors.values(), strict=True
    ):
        boxes = np.asarray(boxes)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) ** 0.5
        # Three sizes to an octave; KerasHub rounds sides down.
        assert {*np.unique(areas.round(0) // size)} == {1.0}
        assert abs(areas.min() - size) < 1.5
        assert areas.max() / size == pytest.approx(2 ** (2 / 3), abs=0.05)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_targets_decoded_as_predictions_are_the_objects(dtype):
    """Also objects that are smaller than any anchor, and in bfloat16."""
    with compilation.policy(dtype):
        model = detector()
    x = images()
    targets = {
        "boxes": np.array(TARGETS["boxes"]),
        "labels": np.array([[0, 2], [1, -1]]),
    }
    # No anchor overlaps it by half, and bfloat16 holds no 70.7.
    targets["boxes"][0, 1] = [3.3, 70.7, 8.9, 77.3]
    encoded, labels = model.label_encoder(
        images=x, gt_boxes=targets["boxes"], gt_classes=targets["labels"]
    )
    anchors = keras.ops.concatenate(
        list(model.anchor_generator(x).values()), axis=0
    )
    decoded = keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors=anchors,
        boxes_delta=encoded,
        encoded_format="center_xywh",
        anchor_format="yxyx",
        box_format="yxyx",
        image_shape=(H, W, 3),
    )
    decoded, labels = np.asarray(decoded), np.asarray(labels)
    for i in range(2):
        for box, label in zip(
            targets["boxes"][i], targets["labels"][i], strict=True
        ):
            rows = decoded[i][labels[i] == label]
            if label >= 0:
                assert len(rows)
                np.testing.assert_allclose(
                    rows, np.tile(box, (len(rows), 1)), atol=1e-3
                )


def test_anchors_are_matched_as_a_table_of_overlaps_says():
    """Rows are anchors; columns are two objects and a row of padding."""
    overlaps = np.array(
        [[[0.6, 0.1, 0], [0.45, 0.1, 0], [0.3, 0.2, 0], [0.1, 0, 0]]],
        "float32",
    )
    objects, values = matching.EachObjectMatcher()(overlaps)
    # Anchor 2 learns object 1, which no anchor overlaps more.
    assert np.asarray(values).tolist() == [[1, -2, 1, -1]]
    assert np.asarray(objects)[0, [0, 2]].tolist() == [0, 1]
    nothing, values = matching.EachObjectMatcher()(0 * overlaps)
    assert np.asarray(values).tolist() == [[-1] * 4]


def test_heads_start_as_in_the_paper(model):
    for head in (model.box_head, model.classification_head):
        for conv in (*head.conv_layers, head.prediction_layer):
            kernel = np.asarray(conv.kernel)
            assert 0.008 < kernel.std() < 0.012
    bias = np.asarray(model.box_head.prediction_layer.bias)
    assert (bias == 0).all()
    bias = np.asarray(model.classification_head.prediction_layer.bias)
    np.testing.assert_allclose(bias, -np.log(99), rtol=1e-6)
    outputs = model(images(), training=False)
    share = np.asarray(keras.ops.sigmoid(outputs["cls_logits"]))
    assert share.mean() == pytest.approx(0.01, rel=0.2)


def test_losses_are_those_of_tensorflow_tpu(model):
    """Focal loss and Huber's loss, written out in NumPy."""
    model.compile(keras.optimizers.SGD(0.0))
    x = images()
    logged = model.evaluate(x, TARGETS, batch_size=2, verbose=0)[0]
    outputs = model(x, training=False)
    deltas, labels = model.label_encoder(
        images=x, gt_boxes=TARGETS["boxes"], gt_classes=TARGETS["labels"]
    )
    deltas, labels = np.asarray(deltas, float), np.asarray(labels, int)
    positive = labels >= 0
    normalizer = positive.sum()
    logits = np.asarray(outputs["cls_logits"], float)
    share = 1 / (1 + np.exp(-logits))
    wanted = labels[..., None] == np.arange(3)
    right = np.where(wanted, share, 1 - share)
    weight = np.where(wanted, 0.25, 0.75)
    focal = -weight * (1 - right) ** 1.5 * np.log(right)
    focal = focal[labels != -2].sum() / normalizer
    error = abs(np.asarray(outputs["bbox_regression"], float) - deltas)
    huber = np.where(error < 0.1, error**2 / 2, 0.1 * (error - 0.05))
    huber = 50 * huber.mean(-1)[positive].sum() / normalizer
    assert logged == pytest.approx(focal + huber, rel=1e-4)
    assert logged < 20  # 2127 with KerasHub's defaults


def step(x, targets):
    """Changes of the weights in one step of SGD, and what `fit` logs."""
    keras.utils.set_random_seed(0)
    model = tasks.RetinaNet(backbone(), 3, max_level=5, head_convs=1)
    model.compile(keras.optimizers.SGD(0.1))
    before = [np.array(v) for v in model.trainable_variables]
    history = model.fit(x, targets, len(x), 1, verbose=0, shuffle=False)
    after = model.trainable_variables
    changes = [np.array(b) - a for a, b in zip(before, after, strict=True)]
    return changes, {k: v for k, (v,) in history.history.items()}


@pytest.mark.tensorflow_only
def test_a_step_of_two_replicas_is_the_mean_of_their_steps(two_replicas):
    x = images(4)
    # 3 objects in the first half, 2 in the second one.
    targets = {k: v[[0, 1, 1, 1]] for k, v in TARGETS.items()}
    halves = [
        step(x[rows], {k: v[rows] for k, v in targets.items()})
        for rows in (slice(2), slice(2, 4))
    ]
    with two_replicas.scope():
        changes, logged = step(x, targets)
    # Sums of the replicas would be twice these values.
    for key, value in logged.items():
        values = [logs[key] for _, logs in halves]
        assert value == pytest.approx(np.mean(values), rel=1e-3), key
    for a, b, both in zip(halves[0][0], halves[1][0], changes, strict=True):
        wanted = (a + b) / 2
        scale = max(abs(wanted).max(), 1e-4)
        np.testing.assert_allclose(both, wanted, atol=0.01 * scale)


def test_suppression_is_class_by_class_on_clipped_boxes():
    layer = suppression.ClasswiseSuppression(max_detections=4)
    boxes = np.array(
        [[[-9, 10, 40, 50], [0, 11, 40, 50], [30, 60, 80, 96]]], "float32"
    )
    logits = np.full((1, 3, 2), -9.0, "float32")
    logits[0, 0] = (2.0, 1.0)  # the same box as two classes: both stay
    logits[0, 1] = (1.5, -9)  # overlaps the first of its class: goes
    logits[0, 2] = (-9, -2.5)  # 0.076
    found = {
        k: np.asarray(v) for k, v in layer(boxes, logits, images(1)).items()
    }
    assert found["num_detections"].tolist() == [3]
    assert found["labels"].tolist() == [[0, 1, 1, -1]]
    np.testing.assert_allclose(
        found["confidence"][0], [0.8808, 0.7311, 0.0759, -1], atol=1e-4
    )
    np.testing.assert_allclose(
        found["boxes"][0],
        [[0, 10, 40, 50], [0, 10, 40, 50], [30, 60, 64, 96], [-1] * 4],
        atol=1e-3,
    )
    same = suppression.ClasswiseSuppression.from_config(layer.get_config())
    assert same.max_detections == 4 and same.score_threshold == 0.05


def test_mixed_precision_does_not_round_the_boxes_of_late_classes():
    boxes = np.array([[[12.25, 20.5, 40.75, 61.5]]], "float32")
    logits = np.full((1, 1, 80), -9.0, "float32")
    logits[0, 0, 79] = 2.0
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = suppression.ClasswiseSuppression()
        found = layer(boxes, logits, images(1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.asarray(found["labels"])[0, 0] == 79
    box = np.asarray(found["boxes"])[0, 0]
    np.testing.assert_allclose(box, boxes[0, 0], atol=1e-3)


def test_two_images_give_what_single_ones_give(model):
    x = images()
    both = model.predict(x, verbose=0)
    for i in range(2):
        alone = model.predict(x[i : i + 1], verbose=0)
        for key in ("boxes", "confidence"):
            np.testing.assert_allclose(both[key][i], alone[key][0], atol=1e-3)


def test_fit_lowers_the_loss_and_the_scheduler_reaches_the_backbone():
    model = detector()
    dropping = kdb.layers.dropblock_layers(model)
    assert dropping and {x.keep_prob for x in dropping} != {1.0}
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, clipnorm=5.0))
    history = model.fit(
        images(),
        TARGETS,
        batch_size=2,
        epochs=8,
        verbose=0,
        callbacks=[kdb.KeepProbScheduler(kdb.schedules.linear)],
    )
    losses = history.history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    for layer in dropping:
        assert layer.keep_prob == pytest.approx(layer.final_keep_prob, abs=0.02)


def test_a_detector_is_saved_and_loaded_with_its_card(model, tmp_path):
    import small_runs

    model.card = small_runs.card((H, W, 3), ("a", "b", "c"), task="detection")
    model.save(tmp_path / "detector.keras")
    loaded = kdb.load(tmp_path / "detector.keras")
    del model.card
    assert loaded.card.class_names == ("a", "b", "c")
    matcher = loaded.label_encoder.box_matcher
    assert type(matcher) is matching.EachObjectMatcher
    x = images()
    for a, b in zip(
        model(x, training=False).values(),
        loaded(x, training=False).values(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "notation", ["ResNet-50", "ResNet-34-2", "WRN-50-2-bottleneck"]
)
def test_every_resnet_for_imagenet_is_a_backbone(notation):
    network = kdb.models.from_notation(
        notation, num_classes=1, input_shape=(64, 64, 3), keep_prob=0.9
    )
    x = images()[:, :, :64]
    heads = tasks.RetinaNet(network, 3, head_convs=1, max_level=5)(x)
    # 9 anchors at each position of 8 x 8, 4 x 4 and 2 x 2
    assert heads["cls_logits"].shape == (2, 9 * (64 + 16 + 4), 3)
    assert tasks.DeepLab(network, 4)(x).shape == (2, 64, 64, 4)
    assert tasks.FCN(network, 4)(x).shape == (2, 64, 64, 4)


def test_norms_of_the_backbone_can_be_frozen():
    model = detector()
    free = len(model.trainable_variables)
    norms = [
        v
        for v in model.backbone.trainable_variables
        if v.name in ("gamma", "beta") and "group" in v.path
    ]
    tasks.freeze_norms(model)
    frozen = {id(v) for v in model.trainable_variables}
    assert norms and not any(id(v) in frozen for v in norms)
    assert any("group4" in v.path for v in model.trainable_variables)
    assert len(frozen) < free
    before = {
        v.path: v.numpy()
        for v in model.non_trainable_variables
        if "moving" in v.path and "group4" in v.path
    }
    model.compile(keras.optimizers.SGD(0.01, clipnorm=1.0))
    model.fit(images(), TARGETS, epochs=1, verbose=0)
    after = {v.path: v.numpy() for v in model.non_trainable_variables}
    assert before
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value)


def test_deeplab_trains_and_reloads(tmp_path):
    model = tasks.DeepLab(backbone(), 4)
    assert model.output_shape == (None, H, W, 4)
    model.compile(keras.optimizers.SGD(0.01))
    masks = np.random.default_rng(0).integers(0, 4, (2, H, W))
    masks[:, :8] = 255
    history = model.fit(images(), masks, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    model.save(tmp_path / "deeplab.keras")
    loaded = kdb.load(tmp_path / "deeplab.keras")
    x = images()
    both = model(x, training=False)
    np.testing.assert_allclose(loaded(x, training=False), both, atol=1e-4)
    for i in range(2):
        alone = model(x[i : i + 1], training=False)
        np.testing.assert_allclose(alone[0], both[i], atol=1e-4)
    # Pixels of class 255 do not count.
    losses = []
    for unlabeled in (images()[..., 0] > 9, images()[..., 0] > 0):
        some = np.where(unlabeled, 255, np.argmax(both, -1))
        losses.append(model.evaluate(x, some, verbose=0))
    logits = np.log(np.exp(both).sum(-1)) - np.max(both, -1)
    kept = images()[..., 0] <= 0
    assert losses == pytest.approx(
        [logits.mean(), logits[kept].mean()], rel=1e-3
    )


# --- runs


def recipe(*changes):
    return kdb.Recipe().override(
        [
            "task=detection",
            "dataset=shapes",
            f"image_size=[{H}, {W}]",
            "model=ResNet-18-0.125",
            "keep_prob=0.9",
            "block_size=3",
            "max_level=5",
            "augmentation=scale_flip",
            "batch_size=32",
            "epochs=3",
            "ap_epochs=2",
            "learning_rate=0.01",
            "learning_rate_drops=[]",
            "weight_decay=1e-4",
            *changes,
        ]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    keras.utils.set_random_seed(0)
    return kdb.fit(recipe(), workdir, verbose=0), workdir


def test_a_run_scores_draws_and_loads(run):
    scores, workdir = run
    assert 0 <= scores["ap"] <= scores["ap50"] <= 1 and scores["images"] == 32
    assert {*scores["class_ap"]} == {"disk", "square", "triangle"}
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # AP is measured after every second epoch, and after the last one.
    assert [row["test_ap"] == "nan" for row in rows] == [True, False, False]
    assert float(rows[-1]["test_ap"]) == pytest.approx(scores["ap"])
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < losses[0]
    assert len([*(workdir / "predictions").iterdir()]) == 3
    assert kdb.evaluate(workdir)["ap"] == pytest.approx(scores["ap"])


def test_the_report_has_the_scores_and_the_pictures_of_a_run(run, tmp_path):
    from test_report import drawn_page

    scores, workdir = run
    written = drawn_page(workdir, tmp_path / "report.html")
    assert "detection, test split" in written.text
    heading, row = written.tables[0]
    assert heading[3:] == ["AP, %", "AP50, %", "AP75, %"]
    assert row[3] == f"{100 * scores['ap']:.2f}"
    # AP is not measured after each epoch.
    curves = "".join(svg.decode() for svg in written.decoded("svg+xml"))
    assert "AP50, %" in curves and "nan" not in curves


def test_a_detector_is_published_refreshed_and_loaded(
    run, tmp_path, checkout, monkeypatch
):
    import publish
    import publish_rules
    from cards_check import check_cards
    from small_runs import COMMIT, change, commit

    scores, workdir = run
    copy = shutil.copytree(workdir, tmp_path / "run")
    change(copy / "run.json", commit(COMMIT))
    assert np.isnan(scores["ap_large"])  # no shape is that large
    monkeypatch.setattr(publish_rules, "IN_GIT", 10**8)
    folder = publish.publish([copy], checkout)
    name = "retinanet_resnet_18_0p125_shapes_dropblock"
    assert folder.name == name
    publish.refresh(checkout)
    check_cards(checkout)
    model = kdb.load(name)
    (own,) = kdb.hub.Card.from_folder(folder).metrics["runs"]
    assert own["ap_large"] is None and own["ap"] == scores["ap"]
    assert "only objects of its 3 classes" in (folder / "README.md").read_text()
    image, *_ = shapes.example("test", 0, (H, W))
    (ours,), (theirs,) = (
        kdb.predict(part, [image]) for part in (model, kdb.load(workdir))
    )
    np.testing.assert_array_equal(ours["boxes"], theirs["boxes"])


def test_maps_are_compared_with_the_objects(run, tmp_path, parsed_flags):
    from absl.testing import flagsaver

    from keras_dropblock.cli import analyze

    _, workdir = run
    with flagsaver.flagsaver(out=str(tmp_path), images=6):
        analyze.analyze([str(workdir)])
    with open(tmp_path / "maps.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["object"] for row in rows] == ["disk", "square", "triangle"]
    assert all(0.01 <= float(row["covered"]) < 0.5 for row in rows)
    assert (tmp_path / "inside.png").exists()


def test_predictions_are_in_the_images_own_pixels(run):
    _, workdir = run
    model = kdb.load(workdir)
    rng = np.random.default_rng(0)
    photographs = [
        rng.integers(0, 256, size, "uint8")
        for size in [(200, 90, 3), (H, W, 3)]
    ]
    for image, found in zip(
        photographs, kdb.predict(model, photographs), strict=True
    ):
        boxes, scores = found["boxes"], found["scores"]
        assert len(boxes) == len(scores) == len(found["labels"])
        if len(boxes):
            assert boxes.min() >= 0
            assert (boxes.max(0)[[2, 3]] <= image.shape[:2]).all()
            assert scores.min() >= 0.05 and (np.diff(scores) <= 0).all()
        task = tasks.Detection()
        assert len(task.lines(found, model.card)) == len(boxes)
        assert task.picture(image, found, model.card).shape == image.shape


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, deterministic):
    import small_runs

    settings = recipe(
        "epochs=2", "batch_size=16", "head_convs=0", "validation_split=0.7"
    )
    small_runs.assert_resumes(settings, tmp_path)


def test_deeplab_is_trained_evaluated_and_exported_by_recipe(tmp_path):
    settings = kdb.Recipe().override(
        [
            "task=segmentation",
            "head=deeplab",
            "dataset=shapes",
            f"image_size=[{H}, {W}]",
            "model=ResNet-18-0.125",
            "batch_size=32",
            "epochs=1",
            "learning_rate_drops=[]",
            "frozen_norms=true",
            "dtype=mixed_bfloat16",
        ]
    )
    workdir = tmp_path / "run"
    scores = kdb.fit(settings, workdir, verbose=0)
    assert 0 <= scores["miou"] <= 1 and scores["images"] == 32
    assert kdb.evaluate(workdir)["miou"] == pytest.approx(scores["miou"])
    model = kdb.load(workdir)
    image = shapes.example("test", 0, (150, 110))[0]
    (expected,) = kdb.predict(model, [image])
    assert expected.shape == (150, 110)
    loaded = tf.saved_model.load(str(kdb.export(model, tmp_path / "export")))
    mask = loaded.serve_uint8(image[None])["mask"][0]
    assert np.mean(np.asarray(mask) != expected) < 1e-3
    other = kdb.load(workdir, num_classes=7)
    assert other.output_shape == (None, H, W, 7)


def test_it_trains_from_the_weights_of_a_detector_or_classifier(run, tmp_path):
    _, workdir = run
    classifier = kdb.models.ResNet(
        18, 0.125, num_classes=7, input_shape=(32, 32, 3)
    )
    path = tmp_path / "classifier.weights.h5"
    classifier.save_weights(path)
    sources = {workdir: kdb.load(workdir), path: classifier}
    for weights, source in sources.items():
        settings = recipe(
            f"initial_weights={weights}", "freeze=4", "frozen_norms=true"
        )
        model = plan.resolve(settings).model(steps_per_epoch=2)
        wanted, given = (
            transfer.shared_layers(part)["group3_block1"].weights
            for part in (source, model)
        )
        wanted = [v for v in wanted if v.name == "kernel"]
        given = [v for v in given if v.name == "kernel"]
        for a, b in zip(wanted, given, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert not any("group" in v.path for v in model.trainable_variables)


def test_a_trained_detector_gets_a_head_for_other_classes(run):
    _, workdir = run
    old, new = kdb.load(workdir), kdb.load(workdir, num_classes=5)
    assert new.num_classes == 5
    for a, b in zip(
        old.box_head.get_weights(), new.box_head.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_an_export_answers_in_the_images_own_pixels(run, tmp_path):
    _, workdir = run
    model = kdb.load(workdir)
    # The run is too short for scores of 0.05.
    layer = model.classification_head.prediction_layer
    layer.kernel.assign(40 * layer.kernel)
    layer.bias.assign(keras.ops.zeros_like(layer.bias))
    path = kdb.export(model, tmp_path)
    loaded = tf.saved_model.load(str(path))
    image = shapes.example("test", 0, (150, 110))[0]
    (expected,) = kdb.predict(model, [image])
    count = len(expected["boxes"])
    assert count  # nothing to compare otherwise
    answers = loaded.signatures["serve_bytes"](
        tf.stack([tf.io.encode_png(image), b""])
    )
    assert answers["num_detections"].numpy().tolist() == [count, 0]
    assert answers["labels"].numpy()[0, count:].tolist() == [-1] * (100 - count)
    for given in (answers, loaded.serve_uint8(image[None])):
        np.testing.assert_allclose(
            given["boxes"][0, :3], expected["boxes"][:3], atol=0.05
        )
        np.testing.assert_allclose(
            given["scores"][0, :count], expected["scores"], atol=1e-3
        )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    alone = answers_without_this_package(path, image[None], folder)
    np.testing.assert_allclose(
        alone["boxes"][0, :3], expected["boxes"][:3], atol=0.05
    )
    for name, (dtype, shape) in served.DETECTOR_OUTPUTS.items():
        values = answers[name]
        assert values.dtype == dtype and len(values.shape) == 1 + len(shape)
    assert {*answers} == {*served.DETECTOR_OUTPUTS, "status"}
    shifted = {**expected, "boxes": expected["boxes"] + 2}
    row = {name: values[:1].numpy() for name, values in answers.items()}
    difference = tasks.Detection().answer_difference
    assert difference(row, expected, model.card) == ""
    assert f"lack {count} of the {count}" in difference(
        row, shifted, model.card
    )


def test_the_raw_heads_are_exported_to_onnx(run, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    _, workdir = run
    path = kdb.export(kdb.load(workdir), tmp_path, format="onnx")
    session = onnxruntime.InferenceSession(path)
    pixels = np.zeros((1, H, W, 3), "uint8")
    boxes, classes = session.run(
        ["bbox_regression", "cls_logits"], {"images": pixels}
    )
    assert boxes.shape[:2] == classes.shape[:2] and classes.shape[2] == 3


@pytest.mark.parametrize(
    "change", ["strategy=mirrored", "dtype=mixed_bfloat16"]
)
def test_a_step_with_replicas_or_in_bfloat16(change, tmp_path):
    scores = kdb.fit(recipe(change, "epochs=1"), tmp_path, verbose=0)
    assert scores["images"] == 32
