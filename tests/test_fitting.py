"""The main job end to end, small: fit, resume, evaluate, refuse."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from runs import Stop, rows, small, weights

from keras_dropblock import callbacks, fitting
from keras_dropblock.recipes import Recipe, RecipeError

ROOT = pathlib.Path(__file__).parents[1]


def test_a_run_leaves_all_that_explains_it(npz, tmp_path, capsys):
    result = fitting.fit(small(npz), tmp_path / "run", verbose=0)
    files = {p.name for p in (tmp_path / "run").iterdir()}
    expected = {
        ".lock",
        "recipe.toml",
        "run.json",
        "history.csv",
        "curves.png",
        "backup",
        "model.weights.h5",
        "metrics.json",
    }
    if keras.backend.backend() == "tensorflow":
        expected.add("tensorboard")
    assert files == expected
    resolved = Recipe.from_toml(tmp_path / "run" / "recipe.toml")
    assert resolved.mean and resolved.std
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    (session,) = info["sessions"]
    assert session["versions"]["keras"] == keras.__version__
    assert session["after_epoch"] == 0 and session["seconds"] > 0
    assert info["training_images"] == 100 and info["test_images"] == 43
    assert result["images"] == 43
    history = rows(tmp_path / "run")
    assert [int(row["epoch"]) for row in history] == [0, 1, 2]
    kept = [float(row["keep_prob"]) for row in history]
    assert kept == pytest.approx([1 - 0.2 / 3, 1 - 0.4 / 3, 0.8], abs=1e-6)
    rates = [float(row["learning_rate"]) for row in history]
    assert rates == pytest.approx([0.1, 0.1, 0.02])
    # The last epoch's test accuracy in the log is the evaluated one.
    assert float(history[-1]["val_accuracy"]) == pytest.approx(
        result["accuracy"], abs=1e-6
    )
    assert fitting.evaluate(tmp_path / "run") == pytest.approx(result)
    assert fitting.evaluate(tmp_path / "run", "train")["images"] == 100
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("stopped_in", [0, 2])
def test_the_same_command_resumes_and_then_says_it_is_done(
    npz, tmp_path, capsys, monkeypatch, deterministic, stopped_in
):
    fitting.fit(small(npz), tmp_path / "whole", verbose=0)

    def stop(self, epoch, logs=None):
        if epoch == stopped_in:
            raise Stop

    # In the first epoch before its row is written, later after it.
    callback, event = (
        (callbacks.EpochOfData, "on_epoch_begin")
        if stopped_in == 0
        else (callbacks.SaveWeights, "on_epoch_end")
    )
    with monkeypatch.context() as patch:
        patch.setattr(callback, event, stop)
        with pytest.raises(Stop):
            fitting.fit(small(npz), tmp_path / "parts", verbose=0)
    assert not (tmp_path / "parts" / "metrics.json").exists()
    fitting.fit(small(npz), tmp_path / "parts", verbose=0)
    said = "goes on after epoch 2" if stopped_in else "The run starts"
    assert said in capsys.readouterr().out.splitlines()[-2]
    for a, b in zip(
        weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True
    ):
        assert np.array_equal(a, b)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")

    record = (tmp_path / "parts" / "run.json").read_text()
    sessions = json.loads(record)["sessions"]
    assert [s["after_epoch"] for s in sessions] == (
        [0, 2] if stopped_in else [0]
    )
    (tmp_path / "parts" / "curves.png").unlink()
    result = fitting.fit(small(npz), tmp_path / "parts", verbose=0)
    assert "is done: all 3 epochs" in capsys.readouterr().out
    assert result["images"] == 43
    assert (tmp_path / "parts" / "run.json").read_text() == record
    assert (tmp_path / "parts" / "curves.png").exists()


def test_another_recipe_and_foreign_folders_are_refused(npz, tmp_path):
    fitting.fit(small(npz, "epochs=1"), tmp_path / "run", verbose=0)
    with pytest.raises(
        ValueError, match=r"another recipe.*epochs \(1 there, 2"
    ):
        fitting.fit(small(npz, "epochs=2"), tmp_path / "run", verbose=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="no recipe.toml"):
        fitting.fit(small(npz), tmp_path / "mine", verbose=0)
    with pytest.raises(ValueError, match="no work directory"):
        fitting.evaluate(tmp_path / "mine")


@pytest.mark.parametrize(
    "change, message",
    [
        ("model=WRN-11-1", "`depth` must be 6n"),
        ("model=WRN", "`notation` must read like"),
        ("dropblock_groups=[4]", "`dropblock_groups` must be"),
        ("batch_size=101", "`batch_size` must not exceed"),
        ("mean=[1.0]", "`mean` must have one number for each of the 3"),
    ],
)
def test_a_recipe_that_cannot_be_leaves_no_trace(
    npz, tmp_path, change, message
):
    with pytest.raises(RecipeError, match=message):
        fitting.fit(small(npz, change), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


REGULARISERS = (
    *("dropout=0.2", "spatial_dropout=0.2", "survival_prob=0.8", "cutout=6"),
    *("mixup=0.2", "label_smoothing=0.1", "keep_prob=0.8"),
)


@pytest.mark.parametrize(
    "settings", [*((r,) for r in REGULARISERS), REGULARISERS]
)
def test_regularisers_train_alone_and_together(npz, tmp_path, settings):
    recipe = Recipe().override(
        [
            *(f"dataset={npz}", "model=WRN-10-1", "batch_size=50", "epochs=1"),
            *settings,
        ]
    )
    result = fitting.fit(recipe, tmp_path / "run", verbose=0)
    assert np.isfinite(result["nll"])


def test_label_smoothing_is_that_of_the_formula():
    # y * (1 - e) + e / K, with e = .1 and K = 4, on known logits.
    run = Recipe().override(["label_smoothing=0.1", "model=WRN-10-1"])
    model = fitting._build(run, (8, 8, 3), 4)
    fitting._compile(model, run, steps_per_epoch=10)
    logits = np.array([[2.0, 0.0, -1.0, 0.5]], "float32")
    label = np.array([[0, 1, 0, 0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum())
    expected = -(np.array([0.025, 0.925, 0.025, 0.025]) * log_p).sum()
    loss = keras.ops.convert_to_numpy(model.loss(label, logits))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reset, steps", [("true", (20, 50)), ("false", ())])
def test_the_recipe_resets_momentum_where_the_rate_drops(reset, steps):
    run = Recipe().override(
        ["learning_rate_drops=[3, 6]", f"reset_momentum={reset}"]
    )
    model = fitting._build(run.override(["model=WRN-10-1"]), (8, 8, 3), 4)
    fitting._compile(model, run, steps_per_epoch=10)
    assert model.optimizer.reset_momentum_at == steps


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(npz, tmp_path, dtype):
    recipe = small(npz, f"dtype={dtype}", "epochs=1")
    result = fitting.fit(recipe, tmp_path / "run", verbose=0)
    assert np.isfinite(result["nll"])
    assert keras.config.dtype_policy().name == "float32"
    assert {w.dtype for w in weights(tmp_path / "run")} == {np.dtype("float32")}


@pytest.mark.tensorflow_only
def test_mirrored_training_logs_what_it_should(npz, tmp_path):
    recipe = small(npz, "strategy=mirrored", "epochs=2")
    result = fitting.fit(recipe, tmp_path / "run", verbose=0)
    assert result["images"] == 43
    # Equal only if no image is lost or changes places between replicas.
    last = rows(tmp_path / "run")[-1]
    assert float(last["val_accuracy"]) == pytest.approx(result["accuracy"])
    kept = [float(row["keep_prob"]) for row in rows(tmp_path / "run")]
    assert kept == pytest.approx([0.9, 0.8])


@pytest.mark.tensorflow_only
def test_xla_trains_and_excludes_mirrored(npz, tmp_path):
    recipe = small(npz, "jit_compile=true", "epochs=1")
    assert np.isfinite(fitting.fit(recipe, tmp_path / "run", verbose=0)["nll"])
    with pytest.raises(ValueError, match="`jit_compile` does not work"):
        fitting.fit(
            small(npz, "jit_compile=true", "strategy=mirrored"), tmp_path / "b"
        )


def test_training_learns(npz, tmp_path):
    recipe = small(npz, "epochs=8", "augmentation=none", "dropout=0.0")
    result = fitting.fit(recipe, tmp_path / "run", verbose=0)
    assert result["accuracy"] > 0.6  # chance is 0.25


def script(name):
    return pathlib.Path(sys.executable).with_name(f"keras-dropblock-{name}")


def test_the_console_scripts_run(npz, tmp_path):
    workdir = str(tmp_path / "run")
    train = subprocess.run(
        [
            *(script("train"), f"--workdir={workdir}"),
            *("--set", f"dataset={npz}"),
            *("--set", "model=WRN-10-1", "--set", "epochs=1"),
            *("--set", "batch_size=50"),
        ],
        capture_output=True,
        text=True,
    )
    assert train.returncode == 0, train.stderr
    assert "of 43 images after 1 epochs" in train.stdout
    evaluate = subprocess.run(
        [script("evaluate"), f"--workdir={workdir}"],
        capture_output=True,
        text=True,
    )
    assert json.loads(evaluate.stdout)["images"] == 43
    if keras.backend.backend() != "tensorflow":
        return
    out = tmp_path / "saved_models" / "quadrants"
    export = subprocess.run(
        [
            *(sys.executable, ROOT / "training" / "export.py"),
            *(f"--workdir={workdir}", f"--out={out}"),
        ],
        capture_output=True,
        text=True,
    )
    assert f"SavedModel: {out / '1'}" in export.stdout, export.stderr
    assert (out / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize("door", ["train", "evaluate", "export"])
def test_the_doors_of_a_checkout_open(door):
    result = subprocess.run(
        [sys.executable, ROOT / "training" / f"{door}.py", "--help"],
        capture_output=True,
        text=True,
    )
    assert "--workdir" in result.stdout and "Traceback" not in result.stderr
    assert ("143 by SIGTERM" in result.stdout) == (door == "train")


def test_a_wrong_command_is_one_line_and_no_traceback(tmp_path):
    for setting, message in (
        ("epoch=1", "--set: unknown key `epoch`. Did you mean `epochs`?"),
        ("dataset=nowhere.npz", "Cannot read `dataset` nowhere.npz"),
    ):
        result = subprocess.run(
            [
                *(script("train"), f"--workdir={tmp_path / 'run'}"),
                *("--set", setting),
            ],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
