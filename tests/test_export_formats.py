"""ONNX and LiteRT: equal to the model; int8 with its reported accuracy."""

import sys

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from keras_dropblock import exports, models
from keras_dropblock.cli import export as command
from keras_dropblock.training import evaluation, trainer
from keras_dropblock.training.recipe import Recipe
from small_runs import card

pytestmark = pytest.mark.tensorflow_only
SHAPE = (12, 20, 3)
CARD = card(SHAPE, "abcd")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = models.WRN(
        10, 1, keep_prob=0.9, dropout=0.1, num_classes=4, input_shape=SHAPE
    )
    # The network must give different noise images different answers.
    logits = model.get_layer("logits")
    logits.kernel.assign(4 * logits.kernel)
    noise = CARD.normalize(draw_noise())
    logits.bias.assign(-model.predict_on_batch(noise).mean(0))
    model.card = CARD
    return model


@pytest.fixture(scope="module")
def noise():
    return draw_noise()


def draw_noise():
    return np.random.default_rng(1).integers(0, 256, (40, *SHAPE), "uint8")


def probabilities(model, images):
    logits = model.predict_on_batch(CARD.normalize(images))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(["probabilities"], {"images": images})[0]


def run_litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serve_uint8")
    return runner(images=images)["probabilities"]


def test_an_onnx_file_gives_the_models_probabilities(model, noise, tmp_path):
    path = exports.export_onnx(
        model, tmp_path / "new", recipe=Recipe().to_toml()
    )
    for n in (1, 5):
        given = run_onnx(path, noise[:n])
        assert np.allclose(given, probabilities(model, noise[:n]), atol=1e-5)
    assert {file.name for file in path.parent.iterdir()} == {
        "model.onnx",
        "labels.txt",
        "card.json",
        "recipe.toml",
    }


def test_a_litert_file_gives_the_models_probabilities(model, noise, tmp_path):
    path = exports.export_litert(model, tmp_path)
    for n in (1, 5):
        given = run_litert(path, noise[:n])
        assert np.allclose(given, probabilities(model, noise[:n]), atol=1e-5)
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.tflite",
        "labels.txt",
        "card.json",
    }


def test_a_sequential_gives_its_probabilities_in_both_formats(noise, tmp_path):
    model = keras.Sequential(
        [
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    model.build((None, *SHAPE))
    expected = probabilities(model, noise)
    assert np.ptp(expected, 0).max() > 0.01  # the answers differ between images
    for write, run in (
        (exports.export_onnx, run_onnx),
        (exports.export_litert, run_litert),
    ):
        path = write(model, tmp_path, card=CARD)
        assert np.allclose(run(path, noise), expected, atol=1e-5)


def test_int8_is_kept_if_it_answers_as_the_model_does(model, noise, tmp_path):
    expected = probabilities(model, noise)
    labels = expected.argmax(1)
    # The model gets these 10 of the 40 labels wrong.
    labels[:10] = (labels[:10] + 1) % 4
    result = exports.export_litert_int8(
        model, tmp_path, noise, (noise, labels), max_metric_drop=0.1
    )
    given = run_litert(result.path, noise)
    assert given.dtype == np.uint8
    share = (given.argmax(1) == labels).mean()
    assert result[1:] == pytest.approx((40, share, 0.75))
    assert (given.argmax(1) == expected.argmax(1)).mean() >= 0.9
    # The mean difference is 0.012, and 0.14 for the best constant answer.
    constant = abs(expected.mean(0) - expected).mean()
    assert abs(given / 256 - expected).mean() < constant / 5
    # 1 byte per weight instead of 4, and the graph.
    assert result.path.stat().st_size < 150_000


def test_int8_that_loses_too_much_is_not_kept(model, noise, tmp_path):
    labels = probabilities(model, noise).argmax(1)
    black = np.zeros_like(noise[:3])  # gives wrong ranges
    with pytest.raises(exports.DifferenceError, match="Calibrate with more"):
        exports.export_litert_int8(
            model, tmp_path, black, (noise, labels), max_metric_drop=0.5
        )
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_images(model, noise, tmp_path):
    for calibration, test in (
        (noise[:0], (noise, np.zeros(40))),
        (noise, (noise[:0], np.zeros(0))),
        (noise, (noise, np.zeros(39))),
    ):
        with pytest.raises(exports.ExportError, match="at least one image"):
            exports.export_litert_int8(model, tmp_path, calibration, test)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_the_command_refuses_int8_before_it_reads_images(
    task, tmp_path, monkeypatch, parsed_flags
):
    recipe = Recipe().override([f"task={task}", "dataset=shapes"])

    def read(*arguments):
        raise AssertionError("The images were read.")

    monkeypatch.setattr(command.trained, "load", lambda dtype: (None, recipe))
    monkeypatch.setattr(evaluation, "Examples", read)
    with (
        flagsaver.as_parsed(out=str(tmp_path / "out"), format="litert_int8"),
        pytest.raises(exports.ExportError, match=f"for the task {task}"),
    ):
        command.export()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "write, module, extra",
    [
        (exports.export_onnx, "onnxruntime", "onnx"),
        (exports.export_onnx, "tf2onnx", "onnx"),
        (exports.export_litert, "ai_edge_litert.interpreter", "litert"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(
    model, tmp_path, monkeypatch, write, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(exports.ExportError, match=rf"keras-.*\[{extra}\]"):
        write(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_differ_are_not_kept(model, tmp_path, monkeypatch):
    kept = tmp_path / "model.onnx"
    kept.write_text("the one before")
    answers = exports.saved_model.Served.answers
    monkeypatch.setattr(
        exports.saved_model.Served,
        "answers",
        lambda self, images: answers(self, images) + 1e-3 * np.arange(4),
    )
    for write, kind in (
        (exports.export_onnx, "ONNX"),
        (exports.export_litert, "LiteRT"),
    ):
        with pytest.raises(
            exports.DifferenceError, match=f"The output of the {kind} file"
        ):
            write(model, tmp_path)
    assert [*tmp_path.iterdir()] == [kept]
    assert kept.read_text() == "the one before"


def test_examples_are_spaced_over_test_and_drawn_from_training_images(npz):
    recipe = Recipe(dataset=npz, mean=(0.0,) * 3, std=(1.0,) * 3)
    with np.load(npz) as arrays:
        x_train, x_test = arrays["x_train"], arrays["x_test"]
        y_test = arrays["y_test"]
    examples = evaluation.Examples(recipe)
    images, labels = examples.test(10)  # every fourth of 43
    assert (images == x_test[:40:4]).all() and (labels == y_test[:40:4]).all()
    images, labels = examples.test(1000)
    assert (images == x_test).all() and (labels == y_test).all()
    drawn = examples.drawn(7)
    assert len({image.tobytes() for image in drawn}) == 7
    assert {x.tobytes() for x in drawn} <= {x.tobytes() for x in x_train}
    assert len(examples.drawn(1000)) == len(x_train)


@pytest.mark.slow
def test_int8_loses_little_accuracy_on_real_digits(
    tmp_path, capsys, parsed_flags
):
    recipe = Recipe(dataset="digits", model="WRN-10-1").override(
        ["epochs=4", "learning_rate_drops=[3]", "batch_size=32"]
    )
    trainer.fit(recipe, tmp_path / "run", verbose=0)
    out = str(tmp_path / "out")
    workdir = str(tmp_path / "run")
    for kind, said in (
        ("onnx", f"Exported: {out}/model.onnx"),
        ("litert", f"Exported: {out}/model.tflite"),
        ("litert_int8", "accuracy, % of 360 test images: "),
    ):
        settings = {"workdir": workdir, "out": out, "format": kind}
        numbers = {"calibration_images": "200", "test_images": "2000"}
        with flagsaver.as_parsed(**settings, **numbers, max_metric_drop="0.01"):
            command.export()
        assert said in capsys.readouterr().out
    model, recipe = evaluation.load_run(workdir)
    images, labels = evaluation.Examples(recipe).test(360)
    given = run_litert(f"{out}/model_int8.tflite", images).argmax(1)
    plain = run_litert(f"{out}/model.tflite", images).argmax(1)
    assert (plain == labels).mean() > 0.9
    # 1 in 100 images may change its class.
    assert (plain == labels).mean() - (given == labels).mean() <= 0.01
