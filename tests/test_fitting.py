"""Small end-to-end runs: fit, resume, evaluate, and errors."""

import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dropblock import data, models, tasks
from keras_dropblock.data.batches import DeviceBatches
from keras_dropblock.errors import RecipeError
from keras_dropblock.layers import masks
from keras_dropblock.report import curves
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.runs.run import Run
from keras_dropblock.training import (
    callbacks,
    compilation,
    evaluation,
    plan,
    strategies,
    trainer,
)
from keras_dropblock.training.recipe import Recipe
from small_runs import Stop, rows, small, weights

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a fault of TensorFlow"
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_no_pass_over_a_split_is_autotuned(method, npz, tmp_path, monkeypatch):
    seen, original = [], getattr(keras.Model, method)

    def spy(self, x=None, *arguments, **keywords):
        seen.append(x)
        return original(self, x, *arguments, **keywords)

    monkeypatch.setattr(keras.Model, method, spy)
    trainer.fit(small(npz, "epochs=1"), tmp_path / "run", verbose=0)
    assert seen and not any(x.options().autotune.enabled for x in seen)


def test_a_run_leaves_all_that_explains_it(npz, tmp_path, capsys):
    result = trainer.fit(small(npz), tmp_path / "run", verbose=0)
    files = {p.name for p in (tmp_path / "run").iterdir()}
    expected = {
        ".lock",
        "recipe.toml",
        "card.json",
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
    assert info["images"] == {"train": 100, "test": 43}
    assert result["images"] == 43
    history = rows(tmp_path / "run")
    assert [int(row["epoch"]) for row in history] == [0, 1, 2]
    kept = [float(row["keep_prob"]) for row in history]
    assert kept == pytest.approx([1 - 0.2 / 3, 1 - 0.4 / 3, 0.8], abs=1e-6)
    rates = [float(row["learning_rate"]) for row in history]
    assert rates == pytest.approx([0.1, 0.1, 0.02])
    # The last epoch's test accuracy in the log is the evaluated one.
    assert float(history[-1]["test_accuracy"]) == pytest.approx(
        result["accuracy"], abs=1e-6
    )
    # Its loss is the cross-entropy and the L2 loss of the weight decay.
    decay = float(history[-1]["regularization_loss"])
    assert decay > 0.1
    assert float(history[-1]["test_loss"]) - decay == pytest.approx(
        result["nll"], rel=1e-4
    )
    assert evaluation.evaluate(tmp_path / "run") == pytest.approx(result)
    assert evaluation.evaluate(tmp_path / "run", "train")["images"] == 100
    # Each epoch has five steps. The first is not timed.
    assert all(float(row["images_per_second"]) > 0 for row in history)
    last_line = capsys.readouterr().out.splitlines()[-1]
    backend = keras.backend.backend()
    assert re.fullmatch(
        rf"WRN-10-1 on .*: test accuracy \d+\.\d\d % on 43 images after 3 "
        rf"epochs, in \d:\d\d:\d\d on .*cpu.* \({backend}\)\. The results "
        + "are in "
        + re.escape(f"{tmp_path / 'run'}."),
        last_line,
        re.IGNORECASE,
    )


def test_a_run_is_complete_before_it_counts_as_finished(
    npz, tmp_path, monkeypatch
):
    folder = tmp_path / "run"

    write_json = trainer.files.write_json

    def full_at_the_end(path, content):
        if path == folder / workdirs.METRICS:
            raise Stop
        write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.files, "write_json", full_at_the_end)
        with pytest.raises(Stop):
            trainer.fit(small(npz), folder, verbose=0)
    assert Run(folder).card.metrics["parameters"] > 0
    unfinished = folder / workdirs.PREDICTIONS / ".1.epoch_0001.png"
    unfinished.parent.mkdir()
    unfinished.touch()
    trainer.fit(small(npz), folder, verbose=0)
    assert (folder / workdirs.METRICS).exists() and not unfinished.exists()


@pytest.mark.tensorflow_only
def test_a_run_without_tensorboard_says_so_and_trains(
    npz, tmp_path, monkeypatch, capsys
):
    names = [name for name in sys.modules if name.startswith("tensorboard.")]
    for name in ("tensorboard", *names):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    trainer.fit(small(npz, "epochs=1"), tmp_path, verbose=0)
    assert len(rows(tmp_path)) == 1
    assert not (tmp_path / "tensorboard").exists()
    (line,) = (
        line
        for line in capsys.readouterr().out.splitlines()
        if "TensorBoard" in line
    )
    assert line == (
        "TensorBoard is not installed, so no TensorBoard logs are written. "
        "To write them: pip install tensorboard"
    )


def test_with_a_validation_split_the_test_set_is_scored_once_at_the_end(
    npz, tmp_path, monkeypatch, capsys
):
    scored = []
    scores = tasks.Classification.epoch_scores

    def counted(task, model, batches, *epochs):
        scored.append(batches.count)
        return scores(task, model, batches, *epochs)

    monkeypatch.setattr(tasks.Classification, "epoch_scores", counted)
    recipe = small(npz, "validation_split=0.2", "epochs=2", "batch_size=16")
    result = trainer.fit(recipe, tmp_path, verbose=0)
    # A fifth of each class, rounded.
    with np.load(npz) as arrays:
        held = int((np.bincount(arrays["y_train"]) * 0.2).round().sum())
    assert scored == [held, held]
    assert result["images"] == 43 and result["validation"]["images"] == held
    last = rows(tmp_path)[-1]
    assert not [key for key in last if key.startswith(("test_", "val_"))]
    assert float(last["validation_accuracy"]) == pytest.approx(
        result["validation"]["accuracy"], abs=1e-6
    )
    out = capsys.readouterr().out
    assert f"{100 - held} training, 43 test, {held} validation images" in out
    found = evaluation.evaluate(tmp_path, "validation")
    assert found == pytest.approx(result["validation"])


def test_a_run_without_a_validation_split_has_none_to_score(npz, tmp_path):
    trainer.fit(small(npz, "epochs=1"), tmp_path, verbose=0)
    with pytest.raises(RecipeError, match="one of train, test. Received"):
        evaluation.evaluate(tmp_path, "validation")


def test_the_progress_bar_shows_current_values(npz, tmp_path, capsys):
    trainer.fit(small(npz, "epochs=1"), tmp_path / "run", verbose=1)
    bar = capsys.readouterr().out
    for shown in ("images_per_second: ", "learning_rate: 0.1", "prob: 0.8"):
        assert shown in bar


def test_the_curves_are_drawn_after_each_epoch(npz, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        curves,
        "draw",
        lambda history, metrics, path: drawn.append(len(rows(tmp_path))),
    )
    trainer.fit(small(npz), tmp_path, verbose=0)
    assert drawn == [1, 2, 3, 3]


@pytest.mark.parametrize(
    "stopped_in", [0, pytest.param(2, marks=pytest.mark.slow)]
)
def test_the_same_command_resumes_and_then_says_it_is_finished(
    npz, tmp_path, capsys, monkeypatch, deterministic, stopped_in
):
    trainer.fit(small(npz), tmp_path / "whole", verbose=0)

    def stop(self, epoch, logs=None):
        if epoch == stopped_in:
            raise Stop

    # Stop in the first epoch before its row is written, or later after it.
    callback, event = (
        (callbacks.EpochOfData, "on_epoch_begin")
        if stopped_in == 0
        else (callbacks.SaveWeights, "on_epoch_end")
    )
    with monkeypatch.context() as patch:
        patch.setattr(callback, event, stop)
        with pytest.raises(Stop):
            trainer.fit(small(npz), tmp_path / "parts", verbose=0)
    assert not (tmp_path / "parts" / "metrics.json").exists()
    trainer.fit(small(npz), tmp_path / "parts", verbose=0)
    said = "resumes after epoch 2" if stopped_in else "The run starts"
    assert said in capsys.readouterr().out.splitlines()[-2]
    for a, b in zip(
        weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True
    ):
        assert np.array_equal(a, b)
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    for row in (*whole, *parts):
        del row["images_per_second"]  # a measurement
    assert whole == parts

    record = (tmp_path / "parts" / "run.json").read_text()
    sessions = json.loads(record)["sessions"]
    assert [s["after_epoch"] for s in sessions] == (
        [0, 2] if stopped_in else [0]
    )
    (tmp_path / "parts" / "curves.png").unlink()
    result = trainer.fit(small(npz), tmp_path / "parts", verbose=0)
    assert "is finished: all 3 epochs" in capsys.readouterr().out
    assert result["images"] == 43
    assert (tmp_path / "parts" / "run.json").read_text() == record
    assert (tmp_path / "parts" / "curves.png").exists()


def test_folders_of_another_recipe_or_other_files_are_rejected(npz, tmp_path):
    trainer.fit(small(npz, "epochs=1"), tmp_path / "run", verbose=0)
    with pytest.raises(
        ValueError, match=r"another recipe.*epochs \(1 there, 2"
    ):
        trainer.fit(small(npz, "epochs=2"), tmp_path / "run", verbose=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="no recipe.toml"):
        trainer.fit(small(npz), tmp_path / "mine", verbose=0)
    with pytest.raises(ValueError, match="not a work directory"):
        evaluation.evaluate(tmp_path / "mine")


@pytest.mark.parametrize(
    "change, message",
    [
        ("model=WRN-11-1", "`depth` must be 6n"),
        ("model=WRN", "`notation` must read like"),
        ("dropblock_groups=[4]", "`dropblock_groups` must be"),
        ("batch_size=101", "`batch_size` must not exceed"),
        ("mean=[1.0]", "`mean` must have one number for each of the 3"),
        ("synchronized_norms=true", "needs `strategy` mirrored"),
        ("zero_init=true", "WRN-10-1: .*argument 'zero_init'"),
        ("augmentation=resized_crop_flip", "`image_size` must be given"),
    ],
)
def test_an_invalid_recipe_writes_no_files(npz, tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        trainer.fit(small(npz, change), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_dropout_on_shortcuts_is_refused_before_the_data_are_read(tmp_path):
    recipe = small("absent.npz", "model=CifarResNet-8", "shortcut_dropout=0.1")
    recipe = recipe.override(["dropout=0"])
    with pytest.raises(RecipeError, match="`shortcut_dropout` must be 0 in"):
        trainer.fit(recipe, tmp_path / "run", verbose=0)


REGULARIZERS = (
    "dropout=0.1",
    "spatial_dropout=0.1",
    "survival_prob=0.9",
    "cutout=4",
    "mixup=0.2",
    "label_smoothing=0.1",
    "keep_prob=0.9",
)


def trained(recipe, start=None):
    """Weights of a recipe's network before and after an epoch of `fit`.

    Args:
        recipe: `Recipe`.
        start: values of the trainable variables to begin with, or None.

    Returns:
        (values of all trainable variables before, those after)
    """
    run = trainer.Trainer(plan.resolve(recipe))
    variables = run.model.trainable_variables
    if start is not None:
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    run.model.fit(run.train, shuffle=False, verbose=0)
    return before, [keras.ops.convert_to_numpy(v) for v in variables]


@pytest.fixture(scope="module")
def unregularized(npz):
    """A recipe without regularizers, and what `trained` gives for it."""
    recipe = small(npz, "keep_prob=1", "dropout=0", "batch_size=50")
    return recipe, *trained(recipe)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_each_regularizer_alone_changes_what_is_learned(
    unregularized, regularizer
):
    recipe, before, without = unregularized
    _, after = trained(recipe.override([regularizer]), before)
    for a, b, c in zip(before, without, after, strict=True):
        if a.ndim > 1:  # a kernel
            # Rounding alone changes at most 1e-3. Label smoothing, which has
            # the smallest effect, changes the steps by a tenth.
            assert abs(c - b).max() > 0.03 * abs(b - a).max()


@pytest.mark.slow
def test_imagenets_recipe_trains_on_photographs(imagenette, tmp_path):
    recipe = Recipe().override(
        [
            "model=ResNet-18-0.125",
            f"dataset={imagenette}",
            "image_size=32",
            "train_split=train[:96]",
            "test_split=validation[:20]",
            "batch_size=32",
            "epochs=2",
            "keep_prob=0.8",
            "block_size=3",
            "zero_init=true",
            "decay_norms=false",
            "warmup_epochs=1",
            "learning_rate_drops=[]",
        ]
    )
    result = trainer.fit(recipe, tmp_path, verbose=0)
    assert result["images"] == 20 and np.isfinite(result["nll"])
    assert [float(row["learning_rate"]) for row in rows(tmp_path)] == [
        0.0,
        pytest.approx(0.1),
    ]
    resolved = Recipe.from_toml(tmp_path / "recipe.toml")
    assert resolved.augmentation == "resized_crop_flip"
    assert resolved.mean == (123.675, 116.28, 103.53)
    assert evaluation.evaluate(tmp_path)["nll"] == pytest.approx(result["nll"])
    # All variables but the norms decay: stem, 16 convs, 4 shortcuts (the first
    # group has one too: 64 channels become 8), kernel and bias of the logits.
    run = trainer.Trainer(plan.resolve(recipe))
    assert not any(
        v.regularizer for v in run.model.trainable_variables if "bn" in v.path
    )
    assert len(run.model.losses) == 1 + 16 + 4 + 2


def compiled(recipe, steps_per_epoch):
    """A recipe's network for images of 8 x 8 and four classes."""
    model = models.from_notation(
        recipe.model,
        input_shape=(8, 8, 3),
        num_classes=4,
        **recipe.network_options,
    )
    compilation.compile_model(model, recipe, steps_per_epoch)
    return model


def test_label_smoothing_follows_the_formula():
    # y * (1 - e) + e / K, with e = .1 and K = 4, on known logits.
    run = Recipe().override(["label_smoothing=0.1", "model=WRN-10-1"])
    model = compiled(run, steps_per_epoch=10)
    logits = np.array([[2.0, 0.0, -1.0, 0.5]], "float32")
    label = np.array([[0, 1, 0, 0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum())
    expected = -(np.array([0.025, 0.925, 0.025, 0.025]) * log_p).sum()
    loss = keras.ops.convert_to_numpy(model.loss(label, logits))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reset, steps", [("true", (20, 50)), ("false", ())])
def test_the_recipe_resets_momentum_where_the_rate_drops(reset, steps):
    run = Recipe().override(
        [
            "model=WRN-10-1",
            "learning_rate_drops=[3, 6]",
            f"reset_momentum={reset}",
        ]
    )
    model = compiled(run, steps_per_epoch=10)
    assert model.optimizer.reset_momentum_at == steps


def rates(recipe, steps_per_epoch, steps):
    """The learning rate at some steps."""
    schedule = compiled(recipe, steps_per_epoch).optimizer._learning_rate
    return [float(schedule(step)) for step in steps]


def test_drops_and_warmup_can_be_given_in_steps():
    by_epochs = Recipe(
        model="WRN-10-1",
        epochs=6,
        learning_rate_drops=(3, 5),
        warmup_epochs=1,
    )
    by_steps = Recipe(
        model="WRN-10-1",
        epochs=6,
        learning_rate_drops=(),
        learning_rate_drop_steps=(20, 40),
        warmup_steps=10,
    )
    steps = [0, 5, 10, 19, 20, 39, 40, 59]
    expected = [0.0, 0.05, 0.1, 0.1, 0.02, 0.02, 0.004, 0.004]
    for recipe in (by_epochs, by_steps):
        assert rates(recipe, 10, steps) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 10])
def test_the_learning_rate_can_follow_a_cosine(warmup):
    recipe = Recipe(
        model="WRN-10-1",
        epochs=6,
        learning_rate_schedule="cosine",
        warmup_steps=warmup,
    )
    steps = np.array([warmup, warmup + 20, 59, 60])
    share = (steps - warmup) / (60 - warmup)
    expected = 0.1 * (1 + np.cos(np.pi * share)) / 2
    assert rates(recipe, 10, steps) == pytest.approx(expected, abs=1e-7)
    if warmup:
        assert rates(recipe, 10, [0, 5]) == pytest.approx([0.0, 0.05])


def test_drops_and_warmup_cannot_be_given_in_both_steps_and_epochs():
    for changes in (
        ["learning_rate_drop_steps=[9]", "learning_rate_drops=[3]"],
        ["warmup_steps=9", "warmup_epochs=1"],
    ):
        with pytest.raises(RecipeError, match="Only one of"):
            Recipe().override(changes)


@pytest.mark.tensorflow_only
def test_a_step_is_traced_once(monkeypatch):
    calls = []
    draw = masks.dropped_units
    monkeypatch.setattr(
        masks, "dropped_units", lambda *a, **k: calls.append(1) or draw(*a, **k)
    )
    run = Recipe(model="WRN-10-1", keep_prob=0.9, block_size=2)
    model = compiled(run, steps_per_epoch=2)
    calls.clear()
    images, labels = np.ones((4, 8, 8, 3)), np.eye(4)
    model.fit(images, labels, batch_size=2, verbose=0)
    assert len(calls) == 4  # two DropBlock layers in each of two blocks


@pytest.mark.parametrize(
    "dtype",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
)
def test_mixed_precision_trains(npz, tmp_path, dtype):
    recipe = small(npz, f"dtype={dtype}", "epochs=1")
    result = trainer.fit(recipe, tmp_path / "run", verbose=0)
    assert np.isfinite(result["nll"])
    assert keras.config.dtype_policy().name == "float32"
    assert {w.dtype for w in weights(tmp_path / "run")} == {np.dtype("float32")}
    for asked, computed in (
        (None, dtype.removeprefix("mixed_")),
        ("float32", "float32"),  # for exports
    ):
        model, _ = evaluation.load_run(tmp_path / "run", asked)
        assert model.layers[1].compute_dtype == computed


@pytest.mark.slow
def test_mixed_precision_is_as_accurate_as_float32(tmp_path):
    # The digits without resizing, 8 x 8: CPUs have no fast 16-bit convs.
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8) * 15).astype("uint8")
    np.savez(
        tmp_path / "digits.npz",
        x_train=x[:1440],
        y_train=y[:1440],
        x_test=x[1440:],
        y_test=y[1440:],
    )
    accuracy = {}
    for dtype in ("float32", "mixed_bfloat16", "mixed_float16"):
        runs = []
        for seed in range(3):
            recipe = Recipe().override(
                [
                    f"dataset={tmp_path / 'digits.npz'}",
                    "model=WRN-10-1",
                    "epochs=2",
                    "batch_size=16",
                    "learning_rate_drops=[2]",
                    "keep_prob=0.9",
                    "block_size=2",
                    "learning_rate=0.03",
                    f"dtype={dtype}",
                    f"seed={seed}",
                ]
            )
            workdir = tmp_path / f"{dtype}{seed}"
            runs.append(trainer.fit(recipe, workdir, verbose=0)["accuracy"])
            keep_probs = [float(row["keep_prob"]) for row in rows(workdir)]
            # Linear to 0.9, in float32 for every dtype policy.
            expected = [0.95, 0.9]
            assert keep_probs == pytest.approx(expected, abs=1e-7)
            keras.utils.clear_session()
        accuracy[dtype] = np.mean(runs)
    # The accuracy is about 93 % of 357 images. The standard error of a run is
    # 1.4 %, different seeds add as much again, and a difference between means
    # of 3 runs has 1.4 * 2 / 3**.5.
    assert accuracy["float32"] > 0.85, accuracy
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        assert abs(accuracy[dtype] - accuracy["float32"]) < 4 * 0.016, accuracy


@pytest.mark.tensorflow_only
def test_mirrored_training_logs_correct_values(npz, tmp_path):
    recipe = small(npz, "strategy=mirrored", "epochs=2")
    result = trainer.fit(recipe, tmp_path / "run", verbose=0)
    assert result["images"] == 43
    # Equal only if replicas lose no image and keep the order.
    last = rows(tmp_path / "run")[-1]
    assert float(last["test_accuracy"]) == pytest.approx(result["accuracy"])
    kept = [float(row["keep_prob"]) for row in rows(tmp_path / "run")]
    assert kept == pytest.approx([0.9, 0.8])


@pytest.fixture
def in_float64(monkeypatch):
    """Networks compute in float64 instead of the recipe's dtype."""
    policy = compilation.policy
    monkeypatch.setattr(compilation, "policy", lambda dtype: policy("float64"))
    keras.config.set_floatx("float64")  # for the losses
    yield
    keras.config.set_floatx("float32")


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "seed",
    # In float32 a ReLU flips in the first step of seed 2.
    [
        2,
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.slow),
    ],
)
def test_two_replicas_train_like_one(npz, tmp_path, in_float64, seed):
    # In float32, summing in two parts rounds differently. About every ten
    # steps this flips one of the 5e5 ReLUs of a batch, which changes gradients
    # by about 1e-3. In float64 (rounding 1e-16) no ReLU is that close to zero.
    runs = []
    for strategy in ("default", "mirrored"):
        # 100 images in batches of 30 give three steps. The change of the
        # weights is the sum of their gradients, with momentum.
        recipe = small(
            npz,
            "keep_prob=1",
            "dropout=0",
            "batch_size=30",
            "epochs=1",
            "learning_rate=0.05",
            f"strategy={strategy}",
            f"seed={seed}",
            f"synchronized_norms={strategy == 'mirrored'}".lower(),
        )
        trainer.fit(recipe, tmp_path / strategy, verbose=0)
        runs.append((weights(tmp_path / strategy), rows(tmp_path / strategy)))
    (one, (log_of_one,)), (two, (log_of_two,)) = runs
    began = trainer.Trainer(plan.resolve(recipe)).model.get_weights()
    for a, b, start in zip(one, two, began, strict=True):
        assert abs(a - start).max() > 0
        assert abs(a - b).max() < 1e-9 * abs(a - start).max()
    # The loss is that of the global batch, with L2 counted once.
    for key in ("loss", "test_loss"):
        assert float(log_of_one[key]) == pytest.approx(
            float(log_of_two[key]), rel=1e-9
        )


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_unsynchronized_replicas_train_differently(npz, tmp_path):
    losses = [
        trainer.fit(
            small(npz, "epochs=1", "strategy=mirrored", "keep_prob=1", change),
            tmp_path / change,
            verbose=0,
        )["nll"]
        for change in ("synchronized_norms=true", "synchronized_norms=false")
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_no_test_image_is_lost_if_replicas_have_unequal_shares(npz, tmp_path):
    # In batches of 14, the last of 43 test images is alone for two replicas.
    recipe = small(npz, "epochs=1", "strategy=mirrored", "batch_size=14")
    assert trainer.fit(recipe, tmp_path, verbose=0)["images"] == 43


@pytest.mark.parametrize(
    "count, batch_size, replicas, size",
    [
        (43, 20, 2, 20),  # the last 3 are split into 2 + 1
        (43, 14, 2, 12),  # 14 would leave 1
        (43, 64, 2, 42 - 2),  # 42 would leave 1
        (43, 20, 4, 16),  # 20 would leave 3
        (10_000, 128, 8, 128),  # 16 remain, 2 for each replica
    ],
)
def test_every_replica_gets_a_part_of_every_test_batch(
    count, batch_size, replicas, size
):
    assert strategies.full_batches(count, batch_size, replicas) == size


@pytest.mark.tensorflow_only
def test_a_batch_that_replicas_cannot_share_is_refused(npz, tmp_path):
    recipe = small(npz, "strategy=mirrored", "batch_size=21")
    with pytest.raises(RecipeError, match="must be a multiple of their number"):
        trainer.fit(recipe, tmp_path, verbose=0)


def test_too_few_images_for_the_replicas_are_refused():
    with pytest.raises(RecipeError, match="5 images, batch_size=8"):
        strategies.full_batches(5, 8, replicas=4)


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_xla_trains_and_excludes_mirrored(npz, tmp_path):
    recipe = small(npz, "jit_compile=true", "epochs=1")
    assert np.isfinite(trainer.fit(recipe, tmp_path / "run", verbose=0)["nll"])
    with pytest.raises(ValueError, match="`jit_compile` does not work"):
        trainer.fit(
            small(npz, "jit_compile=true", "strategy=mirrored"), tmp_path / "b"
        )


@pytest.mark.parametrize(
    "regularizers",
    [pytest.param((), marks=pytest.mark.slow), REGULARIZERS],
)
def test_training_learns_with_all_regularizers_and_without(
    npz, tmp_path, regularizers
):
    recipe = small(
        npz,
        "epochs=5",
        "augmentation=none",
        "dropout=0",
        "keep_prob=1",
        *regularizers,
    )
    result = trainer.fit(recipe, tmp_path / "run", verbose=0)
    # Chance is 0.25. With four seeds, all 43 were correct in both cases.
    assert result["accuracy"] > 0.9


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="only torch has these limits"
)
@pytest.mark.parametrize(
    "change, message",
    [
        ("jit_compile=true", "`jit_compile` must be false on the torch"),
        ("steps_per_execution=2", "`steps_per_execution` must be 1 on"),
    ],
)
def test_options_that_torch_does_not_support_are_rejected(
    npz, tmp_path, change, message
):
    with pytest.raises(RecipeError, match=message):
        trainer.fit(small(npz, change), tmp_path / "run", verbose=0)


def test_a_run_with_a_nan_score_can_be_loaded(npz, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tasks.Classification,
        "scores",
        lambda self, outputs, labels: {
            "accuracy": 0.5,
            "top5": 0.5,
            "nll": float("nan"),
            "ece": 0.1,
            "images": len(labels),
        },
    )
    trainer.fit(small(npz, "epochs=1"), tmp_path / "run", verbose=0)
    model, _ = evaluation.load_run(tmp_path / "run")
    assert model.card.metrics["scores"]["nll"]["mean"] is None
    assert np.isnan(Run(tmp_path / "run").scores["nll"])


on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="only for JAX"
)


@on_jax
@pytest.mark.parametrize("training", [False, True])
def test_device_batches_equal_batches_in_memory(training):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 12, 9, 3), "uint8")
    labels = rng.integers(0, 5, 50)
    made = [
        kind(
            images,
            labels,
            batch_size=8,
            preprocessing=data.Preprocessing(
                (12, 9), *data.published_statistics("cifar10")
            ),
            targets=np.eye(5, dtype="float32").__getitem__,
            training=training,
            augmentation={"pad": 4, "flip": True, "cutout": 2, "mixup": 1.0},
        )
        for kind in (data.ArrayBatches, DeviceBatches)
    ]
    for b in made:
        b.epoch = 3
    assert len(made[0]) == len(made[1])
    for i in range(len(made[0])):  # the last test batch is a partial one
        for a, b in zip(made[0][i], made[1][i], strict=True):
            assert not isinstance(b, np.ndarray) and b.dtype == np.float32
            assert np.allclose(a, b, atol=1e-6)


@on_jax
def test_data_on_device_train_like_data_in_memory(npz, tmp_path):
    logs = {}
    for on_device in ("true", "false"):
        recipe = small(
            npz,
            f"data_on_device={on_device}",
            "epochs=2",
            "cutout=4",
            "mixup=0.2",
        )
        trainer.fit(recipe, tmp_path / on_device, verbose=0)
        logs[on_device] = rows(tmp_path / on_device)
    # Images differ by float32 rounding, which grows over ten steps.
    for a, b in zip(*logs.values(), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-3)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch runs single steps"
)
@pytest.mark.slow
def test_several_steps_per_execution_train_like_one(npz, tmp_path):
    # keep_prob is constant within a call, so this test has no DropBlock.
    recipes = [
        small(npz, "keep_prob=1", "dropout=0", f"steps_per_execution={steps}")
        for steps in (1, 3)  # of 5 steps: 3, then 2
    ]
    for i, recipe in enumerate(recipes):
        trainer.fit(recipe, tmp_path / str(i), verbose=0)
    for a, b in zip(
        weights(tmp_path / "0"), weights(tmp_path / "1"), strict=True
    ):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-4 * abs(a).max())


def test_data_on_device_needs_jax(npz, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(RecipeError, match="`data_on_device` needs the JAX"):
        plan.check(small(npz, "data_on_device=true"))


WITHOUT_TENSORFLOW = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
from keras_dropblock.cli.train import main
main()
"""


@on_jax
def test_jax_trains_without_tensorflow(npz, tmp_path):
    arguments = [
        "--set=model=WRN-10-1",
        f"--set=dataset={npz}",
        "--set=epochs=2",
        "--set=batch_size=20",
        "--set=learning_rate_drops=[]",
        "--set=data_on_device=true",
        "--set=steps_per_execution=5",
        "--set=dtype=mixed_bfloat16",
        "--set=keep_prob=0.9",
        f"--workdir={tmp_path / 'run'}",
    ]
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "test accuracy" in process.stdout
    session = json.loads((tmp_path / "run" / "run.json").read_text())
    assert session["sessions"][0]["backend"] == "jax"
