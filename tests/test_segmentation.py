"""Semantic segmentation: data, scores, networks, and a run from end to end."""

import csv
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import keras_dropblock as kdb
import mask_folders
from keras_dropblock import data, tasks
from keras_dropblock.analysis import segmentation
from keras_dropblock.errors import (
    DataError,
    DifferenceError,
    ExportError,
    RecipeError,
    WeightsError,
)
from saved_graphs import answers_without_this_package

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    mask_folders.write(root)
    return root


def opened(root, **options):
    options = {
        "labels": "masks",
        "image_size": (64, 96),
        "ignored_labels": (11,),
        **options,
    }
    return data.load(f"masks:{root}", **options)


def recipe(root, *changes):
    return kdb.Recipe().override(
        [
            "task=segmentation",
            f"dataset=masks:{root}",
            "image_size=[64, 96]",
            "model=ResNet-18-0.125",
            "head_filters=16",
            "head_keep_prob=0.9",
            "head_block_size=3",
            "keep_prob=0.9",
            "block_size=3",
            "ignored_labels=[11]",
            "augmentation=flip",
            "batch_size=4",
            "epochs=2",
            "learning_rate=0.02",
            "learning_rate_drops=[]",
            "weight_decay=1e-4",
            *changes,
        ]
    )


# --- data


def test_masks_are_scaled_and_padded_with_their_images(root):
    dataset = opened(root)
    assert dataset.class_names == ("ground", "square")
    assert dataset.splits == ("train", "validation", "test")
    images, masks = (rows[:2] for rows in dataset.arrays["train"])
    assert images.shape == (2, 64, 96, 3) and masks.shape == (2, 64, 96)
    assert {*np.unique(masks)} == {0, 1, 255}
    # The second image is 64 x 64: unchanged, at the left of the frame.
    assert (masks[1, :, 64:] == 255).all() and (masks[1, :4] == 255).all()
    assert (masks[1, 4:, :64] != 255).all()
    assert (
        images[1, :, 64:]
        == data.Preprocessing((64, 96), *dataset.statistics()).fill
    ).all()
    for image, mask in zip(images, masks, strict=True):
        assert image[mask == 1].mean() > 140 > 60 > image[mask == 0].mean()


def test_frames_are_filled_with_the_mean_of_the_recipe(root):
    """The same color as in predictions, which the card's mean gives."""
    from keras_dropblock.training import plan

    for given in ([], ["mean=[10, 20, 30.4]", "std=[1, 1, 1]"]):
        resolved = plan.resolve(recipe(root, *given))
        image = resolved.dataset.arrays["train"][0][1:2][0]
        fill = resolved.card.preprocessing.fill
        assert {*map(tuple, image[:, 64:].reshape(-1, 3).tolist())} == {fill}
    assert fill == (10, 20, 30)


def test_batches_augment_masks_with_images(root):
    dataset = opened(root)
    mean, std = dataset.statistics()
    batches = dataset.batches(
        "train",
        4,
        data.Preprocessing((64, 96), mean, std, framing="pad"),
        np.asarray,
        training=True,
        augmentation={"jitter": (0.5, 2.0), "flip": True},
    )
    images, masks = batches[0]
    assert images.dtype == np.float32 and masks.dtype == np.uint8
    assert images[masks == 1].mean() > 0.3 > images[masks == 0].mean()
    again = batches[0]
    np.testing.assert_array_equal(masks, again[1])


def test_validation_and_test_images_can_be_taken_from_the_training(tmp_path):
    mask_folders.write(tmp_path, counts=(10, 1, 1))
    for split in ("val", "test"):
        shutil.rmtree(tmp_path / split)
    with pytest.raises(DataError, match="has no folder test"):
        opened(tmp_path)
    dataset = opened(tmp_path, test_split=0.2, validation_split=0.25)
    sizes = {split: dataset.size(split) for split in dataset.splits}
    assert sizes == {"train": 6, "validation": 2, "test": 2}


def test_errors_name_the_example(tmp_path):
    mask_folders.write(tmp_path, counts=(2, 1, 1))
    with pytest.raises(DataError, match=r"00.png must have labels below 2"):
        opened(tmp_path, ignored_labels=()).arrays["train"][1][:1]
    with pytest.raises(DataError, match="`image_size` must be given"):
        opened(tmp_path, image_size=None)
    with pytest.raises(DataError, match="must be a data set with classes"):
        opened(tmp_path, labels="classes")
    with pytest.raises(DataError, match="must be a data set with masks"):
        data.load("digits", labels="masks")
    small = tf.io.encode_png(np.zeros((3, 3, 1), "uint8")).numpy()
    (tmp_path / "trainannot/01.png").write_bytes(small)
    with pytest.raises(DataError, match=r"01.png must have the size of its"):
        opened(tmp_path).arrays["train"][1][:2]
    (tmp_path / "trainannot/01.png").unlink()
    with pytest.raises(DataError, match=r"Missing: 1, the first is .*01.png"):
        opened(tmp_path)
    (tmp_path / "classes.txt").write_text("one\n")
    with pytest.raises(DataError, match="2 to 255 different class names"):
        opened(tmp_path)


def test_camvid_is_read_whole(camvid):
    dataset = opened(camvid, image_size=(96, 128))
    assert len(dataset.class_names) == 11 and dataset.size("train") == 367
    masks = dataset.arrays["test"][1][:4]
    # The aspect ratio of 3 : 4 fills the frame.
    assert masks.shape == (4, 96, 128) and (masks == 255).mean() < 0.1


# --- scores


def test_miou_is_that_of_a_definition_in_numpy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (3, 5, 7))
    labels[0, :2] = 255
    predicted = rng.integers(0, 3, (3, 5, 7))  # class 3 is never predicted
    counts = segmentation.pixel_counts(labels, predicted, 5)
    scores = segmentation.segmentation_scores(counts, "abcde", 3)
    valid = labels != 255
    expected = []
    for c in range(4):  # class 4 does not occur
        both = (labels == c) & (predicted == c)
        either = ((labels == c) | (predicted == c)) & valid
        expected.append(both.sum() / either.sum())
    assert scores["miou"] == pytest.approx(np.mean(expected))
    assert scores["class_iou"]["d"] == 0 and scores["class_iou"]["e"] is None
    right = (labels == predicted)[valid].mean()
    assert scores["pixel_accuracy"] == pytest.approx(right)


def test_miou_by_hand_and_as_keras_logs_it():
    labels = np.array([[[0, 0, 1, 255]]])
    predicted = np.array([[[0, 1, 1, 0]]])
    counts = segmentation.pixel_counts(labels, predicted, 2)
    assert counts.tolist() == [[1, 1], [0, 1]]
    scores = segmentation.segmentation_scores(counts, ["a", "b"], 1)
    assert scores["miou"] == 0.5 and scores["pixel_accuracy"] == 2 / 3
    metric = keras.metrics.MeanIoU(2, ignore_class=255, sparse_y_pred=False)
    metric.update_state(labels, np.eye(2)[predicted])
    assert float(metric.result()) == pytest.approx(scores["miou"])
    empty = segmentation.pixel_counts(np.full((2, 2), 255), np.ones((2, 2)), 2)
    scores = segmentation.segmentation_scores(empty, ["a", "b"], 1)
    assert np.isnan(scores["miou"]) and np.isnan(scores["pixel_accuracy"])


def test_overlays_color_classes_and_spare_what_is_not_labeled():
    image = np.full((2, 3, 3), 100, "uint8")
    mask = np.array([[0, 1, 255], [1, 1, 0]])
    colored = segmentation.overlay(image, mask, 2, strength=1.0)
    palette = segmentation.palette(2)
    assert colored[0, 1].tolist() == palette[1].tolist()
    assert colored[0, 2].tolist() == [100] * 3
    assert len({*map(tuple, segmentation.palette(40))}) == 40


# --- the network


def backbone(height=64, width=96, **options):
    return kdb.models.ResNet(
        18, 0.125, input_shape=(height, width, 3), num_classes=1, **options
    )


def test_fcn_gives_logits_of_the_images_size_on_each_level():
    for level in (2, 5):
        model = tasks.FCN(backbone(), 5, level=level, filters=8)
        assert model.output_shape == (None, 64, 96, 5)
        fine = model.get_layer("logits").output.shape[1:3]
        assert fine == (64 // 2**level, 96 // 2**level)


def test_fcn_has_dropblock_on_its_head_which_the_scheduler_reaches():
    model = tasks.FCN(
        backbone(keep_prob=0.8, block_size=3),
        3,
        filters=8,
        keep_prob=0.6,
        block_size=5,
    )
    found = {
        layer.name: (layer.final_keep_prob, layer.block_size)
        for layer in kdb.layers.dropblock_layers(model)
    }
    assert found["head_dropblock1"] == found["head_dropblock2"] == (0.6, 5)
    assert len(found) > 2  # the backbone's
    plain = tasks.FCN(backbone(), 3, filters=8)
    assert not kdb.layers.dropblock_layers(plain)
    assert plain.count_params() == sum(
        int(np.prod(v.shape))
        for v in model.weights
        if v.name not in ("keep_prob", "seed_generator_state")
    )


def test_two_images_give_what_single_ones_give():
    model = tasks.FCN(backbone(), 3, filters=8)
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3))
    images = images.astype("float32")
    both = model(images, training=False)
    for i in range(2):
        alone = model(images[i : i + 1], training=False)
        np.testing.assert_allclose(both[i], alone[0], atol=1e-6)


def test_wrong_arguments_of_the_network_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        tasks.FCN(backbone(64, 100), 3)
    with pytest.raises(ValueError, match="`level` must be"):
        tasks.FCN(backbone(), 3, level=6)
    with pytest.raises(ValueError, match="`num_classes` must be 2"):
        tasks.FCN(backbone(), 1)
    with pytest.raises(ValueError, match="`filters` must be an int from 1"):
        tasks.FCN(backbone(), 3, filters=10**6)


def test_recipes_for_other_networks_or_without_labels_are_refused(root):
    with pytest.raises(RecipeError, match="must be a network for ImageNet"):
        kdb.fit(recipe(root, "model=WRN-10-1"), "unused")
    for key in ("head_level=6", "ignored_labels=[300]", "head=unet"):
        with pytest.raises(RecipeError, match=key.partition("=")[0]):
            recipe(root, key)


# --- a run


@pytest.mark.parametrize(
    "change",
    [
        "head_keep_prob=0.9",
        "head_block_size=5",
        "head_filters=64",
        "head_level=2",
    ],
)
def test_keys_that_deeplab_does_not_use_are_refused(change):
    segmentation = kdb.Recipe().override(["task=segmentation"])
    segmentation.override([change])
    key = change.partition("=")[0]
    with pytest.raises(RecipeError, match=f'`{key}` needs `head` = "fcn"'):
        segmentation.override([change, "head=deeplab"])
    deeplab = segmentation.override(["head=deeplab", "head_filters=256"])
    assert deeplab.task.head == "deeplab"


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    return kdb.fit(recipe(root), workdir, verbose=0), workdir


def test_a_run_scores_draws_and_loads(run, root):
    scores, workdir = run
    assert 0 < scores["miou"] <= 1 and scores["images"] == 3
    assert {*scores["class_iou"]} == {"ground", "square"}
    assert scores["validation"]["images"] == 2
    assert kdb.evaluate(workdir)["miou"] == pytest.approx(scores["miou"])
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"miou", "validation_miou", "keep_prob"} <= {*rows[0]}
    # What Keras logs is what the evaluation measures.
    assert float(rows[-1]["validation_miou"]) == pytest.approx(
        scores["validation"]["miou"], abs=1e-4
    )
    drawn = sorted(p.name for p in (workdir / "predictions").iterdir())
    assert drawn == ["epoch_0001.png", "epoch_0002.png"]
    picture = tf.io.decode_png(
        (workdir / "predictions/epoch_0002.png").read_bytes()
    )
    # Two validation images with mask and prediction, and lines between.
    assert picture.shape == (2 * 64 + 4, 3 * 96 + 8, 3)
    card = json.loads((workdir / "card.json").read_text())
    assert card["preprocessing"]["framing"] == "pad"
    assert card["arguments"]["head"]["keep_prob"] == 0.9


def test_the_card_is_enough_to_evaluate_with_the_same_labels(run):
    """The label 11 is not a class, and the card says so."""
    from keras_dropblock.training import evaluation, plan

    scores, workdir = run
    model = kdb.load(workdir)
    assert model.card.data_options == {"ignored_labels": [11]}
    of_card = plan.recipe_of(model.card)
    assert of_card.task.ignored_labels == (11,)
    again = evaluation.evaluate_model(model, of_card)
    assert again["miou"] == pytest.approx(scores["miou"])
    wrong = dataclasses.replace(
        model.card, data_options={"ignored_labels": [300]}
    )
    with pytest.raises(RecipeError, match="card of run: `ignored_labels`"):
        plan.recipe_of(wrong)
    content = {**model.card.to_dict(), "data_options": {"data_dir": "x"}}
    with pytest.raises(WeightsError, match="`data_options` must be"):
        kdb.hub.Card.from_dict(content)


def test_the_report_has_the_scores_and_the_pictures_of_a_run(run, tmp_path):
    from test_report import drawn_page

    scores, workdir = run
    written = drawn_page(workdir, tmp_path / "report.html")
    assert "segmentation, test split" in written.text
    heading, row = written.tables[0]
    assert heading[3:] == ["mIoU, %", "pixel accuracy, %"]
    assert row[3] == f"{100 * scores['miou']:.2f}"
    curves = "".join(svg.decode() for svg in written.decoded("svg+xml"))
    assert "mIoU, %" in curves and "keep_prob" in curves


def test_predictions_have_the_images_own_size(run):
    _, workdir = run
    model = kdb.load(workdir)
    images = [
        np.random.default_rng(i).integers(0, 256, size, "uint8")
        for i, size in enumerate([(30, 50, 3), (100, 80, 3)])
    ]
    masks = kdb.predict(model, images)
    assert [m.shape for m in masks] == [(30, 50), (100, 80)]
    assert all(m.dtype == np.uint8 and m.max() < 2 for m in masks)
    task = tasks.Segmentation()
    shares = [float(s) for _, s in task.lines(masks[0], model.card)]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert task.picture(images[0], masks[0], model.card).shape == (30, 50, 3)


def test_the_command_draws_pictures_and_overwrites_none(
    run, tmp_path, parsed_flags, capsys
):
    from absl.testing import flagsaver

    from keras_dropblock.cli import predict

    photographs = []
    for i, folder in enumerate(("one", "two", "pictures")):
        photographs.append(tmp_path / folder / "street.png")
        photographs[-1].parent.mkdir()
        pixels = np.full((30, 50 + i, 3), 60 * i, "uint8")
        photographs[-1].write_bytes(tf.io.encode_png(pixels).numpy())
    before = photographs[-1].read_bytes()
    folder = tmp_path / "pictures"
    with flagsaver.flagsaver(workdir=str(run[1]), pictures=str(folder)):
        predict.predict([str(path) for path in photographs])
    assert photographs[-1].read_bytes() == before
    lines = capsys.readouterr().out.splitlines()
    model = kdb.load(run[1])
    for i, path in enumerate(photographs):
        drawn = folder / f"street_{i + 2}.png"
        assert f"{path}\t{drawn}" in lines
        pixels = np.full((30, 50 + i, 3), 60 * i, "uint8")
        (mask,) = kdb.predict(model, [pixels])
        np.testing.assert_array_equal(
            tf.io.decode_png(drawn.read_bytes()),
            tasks.Segmentation().picture(pixels, mask, model.card),
        )
    assert len([*folder.iterdir()]) == 4


def test_the_command_draws_nothing_for_classification(tmp_path, parsed_flags):
    from absl.testing import flagsaver

    from keras_dropblock.cli import predict

    path = tmp_path / "gray.png"
    path.write_bytes(tf.io.encode_png(np.zeros((9, 9, 3), "uint8")).numpy())
    model = "wrn_16_1_cifar10_dropblock"
    pictures = tmp_path / "pictures"
    with (
        flagsaver.flagsaver(model=model, pictures=str(pictures)),
        pytest.raises(DataError, match="not be given for the task classific"),
    ):
        predict.predict([str(path)])
    assert not pictures.exists()


def test_a_trained_model_gets_a_head_for_other_classes(run):
    _, workdir = run
    old, new = kdb.load(workdir), kdb.load(workdir, num_classes=5)
    assert new.output_shape[-1] == 5 and len(new.card.class_names) == 5
    for name in ("stem", "head_conv2"):
        for a, b in zip(
            old.get_layer(name).get_weights(),
            new.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.tensorflow_only
def test_an_export_answers_in_the_images_own_pixels(run, tmp_path):
    _, workdir = run
    model = kdb.load(workdir)
    # Random weights of the last conv: both classes are predicted.
    *_, kernel, _ = model.trainable_variables
    rng = np.random.default_rng(1)
    kernel.assign(rng.standard_normal(kernel.shape))
    path = kdb.export(model, tmp_path)
    loaded = tf.saved_model.load(str(path))
    image = rng.integers(0, 256, (45, 50, 3), "uint8")
    (expected,) = kdb.predict(model, [image])
    assert 0.01 < expected.mean() < 0.99
    mask = loaded.serve_uint8(image[None])["mask"].numpy()[0]
    assert mask.shape == (45, 50) and (mask == expected).mean() > 0.999
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    answers = answers_without_this_package(path, image[None], folder)
    np.testing.assert_array_equal(answers["mask"][0], mask)
    signature = loaded.signatures["serve_bytes"]
    answers = signature(tf.stack([tf.io.encode_png(image), b"no image"]))
    png, nothing = answers["mask_bytes"].numpy()
    decoded = tf.io.decode_png(png).numpy()[..., 0]
    np.testing.assert_array_equal(decoded, mask)
    assert nothing == b"" and answers["status"].numpy()[1] != b"ok"
    raw = loaded.signatures["serve_normalized"]
    assert raw.structured_outputs["logits"].shape.as_list() == [None, 64, 96, 2]
    with pytest.raises(ExportError, match="LiteRT files are for class"):
        kdb.export(model, tmp_path, format="litert")
    with pytest.raises(ExportError, match="`monte_carlo_samples` must be 0"):
        kdb.export(model, tmp_path, monte_carlo_samples=3)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("encoded", [True, False])
def test_an_export_enlarges_the_logits_of_one_image_at_a_time(encoded):
    """By default TensorFlow would do it for ten images at once."""
    task = tasks.Segmentation()

    @tf.function
    def answers(logits, sizes):
        return task.graph_answers(None, logits, logits, sizes, encoded)

    logits = tf.random.normal((3, 32, 64, 4))
    sizes = tf.constant([[32, 64], [16, 32], [64, 128]])
    if not encoded:
        sizes = tf.repeat(sizes[2:], 3, axis=0)
    (values,) = answers(logits, sizes).values()
    assert len(values) == 3
    graph = answers.get_concrete_function(logits, sizes).graph
    loops = [x for x in graph.get_operations() if x.type.endswith("While")]
    assert [x.get_attr("parallel_iterations") for x in loops] == [1]


@pytest.mark.tensorflow_only
def test_an_export_that_differs_is_not_kept(run, tmp_path, monkeypatch):
    _, workdir = run
    model = kdb.load(workdir)
    original = tasks.Segmentation.predict

    def wrong(self, *arguments, **options):
        return [1 - mask for mask in original(self, *arguments, **options)]

    monkeypatch.setattr(tasks.Segmentation, "predict", wrong)
    with pytest.raises(DifferenceError, match="of the pixels"):
        kdb.export(model, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.tensorflow_only
def test_the_raw_heads_are_exported_to_onnx(run, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    _, workdir = run
    path = kdb.export(kdb.load(workdir), tmp_path, format="onnx")
    session = onnxruntime.InferenceSession(path)
    pixels = np.zeros((1, 64, 96, 3), "uint8")
    (logits,) = session.run(["logits"], {"images": pixels})
    assert logits.shape == (1, 64, 96, 2)


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_bits(root, tmp_path, deterministic):
    import small_runs

    settings = recipe(root, "augmentation=scale_flip")
    small_runs.assert_resumes(settings, tmp_path)


def test_a_step_of_training_on_this_backend(root):
    """`make test-backends` runs it on JAX."""
    from keras_dropblock.training import plan

    resolved = plan.resolve(recipe(root))
    model = resolved.model(steps_per_epoch=2)
    before = convs(model, "head_conv1")[0]
    loss, miou = model.train_on_batch(*resolved.training_batches()[0])
    assert np.isfinite(loss) and 0 <= miou <= 1
    assert (convs(model, "head_conv1")[0] != before).any()


def convs(model, name):
    return [w for w in model.get_layer(name).get_weights() if w.ndim == 4]


def test_it_trains_from_weights_with_frozen_norms(run, root):
    _, workdir = run
    from keras_dropblock.training import plan

    changed = recipe(
        root,
        f"initial_weights={workdir}",
        "freeze=1",
        "frozen_norms=true",
        "keep_prob=1",
        "dataset=shapes",
    )
    resolved = plan.resolve(changed)
    source = kdb.load(workdir)
    assert resolved.card.preprocessing.mean == source.card.preprocessing.mean
    model = resolved.model(steps_per_epoch=2)
    for name in ("stem", "group2_block1"):
        wanted = convs(source, name)
        for a, b in zip(convs(model, name), wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    trained = {v.path for v in model.trainable_variables}
    assert not any(p.startswith(("stem", "group1")) for p in trained)
    assert any(p.startswith("group2") for p in trained)
    assert not any("gamma" in p and "head" not in p for p in trained)
    assert any("gamma" in p for p in trained)  # of the head
    with pytest.raises(WeightsError, match="must be those of.*ResNet-34"):
        wide = recipe(root, f"initial_weights={workdir}", "model=ResNet-34")
        plan.resolve(wide).model(steps_per_epoch=2)


def test_it_trains_from_the_weights_of_a_classifier(root, tmp_path):
    from keras_dropblock.training import plan

    path = tmp_path / "classifier.weights.h5"
    classifier = kdb.models.ResNet(
        18, 0.125, num_classes=7, input_shape=(32, 32, 3)
    )
    classifier.save_weights(path)
    resolved = plan.resolve(recipe(root, f"initial_weights={path}"))
    # Nothing says which license the weights in the file have.
    assert resolved.card.license == "unknown"
    model = resolved.model(steps_per_epoch=2)
    wanted = convs(classifier, "group4_block2")
    for a, b in zip(convs(model, "group4_block2"), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    model.save_weights(path)  # without a classifier
    with pytest.raises(WeightsError, match="the work directory of the run"):
        resolved.model(steps_per_epoch=2)


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "change", ["strategy=mirrored", "dtype=mixed_bfloat16"]
)
def test_a_step_with_replicas_or_in_bfloat16(change, root, tmp_path):
    settings = recipe(root, "dataset=shapes", "epochs=1", "batch_size=32")
    scores = kdb.fit(settings.override([change]), tmp_path, verbose=0)
    assert np.isfinite(scores["miou"])
