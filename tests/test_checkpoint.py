"""Checkpoints: exact resuming, damaged files, files of other runs."""

import pathlib
import types
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from keras_dropblock import Recipe, data, files
from keras_dropblock.errors import DivergedError, WorkdirError, WriteError
from keras_dropblock.runs import workdir
from keras_dropblock.training import callbacks, checkpoint, trainer
from keras_dropblock.training.checkpoint import Checkpoint, Place
from small_runs import Stop, assert_same, rows, small, weights

RECIPE, ANOTHER = Recipe(), Recipe(epochs=7)


class FiveBatches:
    """The part of `data.Batches` that a checkpoint needs."""

    epoch = first_batch = 0

    def __len__(self):
        return 5


def compiled(units=1):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(units)(inputs))
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def saver(folder, model, recipe=RECIPE, batches=None):
    keeper = Checkpoint(folder, recipe, batches or FiveBatches())
    keeper.set_model(model)
    return keeper


@pytest.fixture
def two_checkpoints(tmp_path):
    """A model with checkpoints after epochs 1 and 2."""
    model = compiled()
    keeper = saver(tmp_path, model)
    for epoch in (1, 2):
        model.set_weights([np.full(w.shape, epoch) for w in model.weights])
        keeper.save(Place(epoch, 0))
    return model, keeper


def restored(keeper):
    """Restore a new model: (place, the value that all weights have)."""
    model = compiled()
    place = keeper.restore(model)
    (value,) = {float(x) for w in model.get_weights() for x in np.ravel(w)}
    return place, value


def stop_as_batch_begins(monkeypatch, epoch, batch):
    def on_train_batch_begin(self, index, logs=None):
        if (self.batches.epoch, self.batches.first_batch + index) == (
            epoch,
            batch,
        ):
            raise Stop

    monkeypatch.setattr(
        callbacks.EpochOfData, "on_train_batch_begin", on_train_batch_begin
    )


def test_a_run_cut_anywhere_ends_like_an_uninterrupted_one(
    npz, tmp_path, monkeypatch, capsys, deterministic
):
    recipe = small(npz, "reset_momentum=true")
    trainer.fit(recipe, tmp_path / "whole", verbose=0)
    for cut in ((0, 3), (2, 4)):  # the rate drops as epoch 2 begins
        with monkeypatch.context() as patch:
            stop_as_batch_begins(patch, *cut)
            with pytest.raises(Stop):
                trainer.fit(
                    recipe,
                    tmp_path / "parts",
                    verbose=0,
                    checkpoint_minutes=0,
                )
    # At the start of a batch, the previous step has no checkpoint yet.
    assert "The run resumes after step 2 of epoch 1." in capsys.readouterr().out
    trainer.fit(recipe, tmp_path / "parts", verbose=0)
    assert "The run resumes after step 3 of epoch 3." in capsys.readouterr().out
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_a_mirrored_run_resumes_inside_an_epoch(
    npz, tmp_path, monkeypatch, deterministic
):
    recipe = small(npz, "strategy=mirrored", "epochs=1")
    trainer.fit(recipe, tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch:
        stop_as_batch_begins(patch, 0, 4)
        with pytest.raises(Stop):
            trainer.fit(
                recipe,
                tmp_path / "parts",
                verbose=0,
                checkpoint_minutes=0,
            )
    trainer.fit(recipe, tmp_path / "parts", verbose=0)
    # A checkpoint holds the mean of the replicas' moving statistics, so these
    # and the scores computed with them agree only up to rounding.
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for a, b in zip(whole, parts, strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7)
    (last,), (expected,) = (
        rows(tmp_path / "parts"),
        rows(tmp_path / "whole"),
    )
    assert float(last["loss"]) == pytest.approx(float(expected["loss"]))
    assert float(last["accuracy"]) == float(expected["accuracy"])


def test_batches_can_begin_inside_an_epoch():
    images = np.arange(50, dtype="uint8").reshape(10, 1, 5, 1)
    batches = data.ArrayBatches(
        images,
        np.arange(10) % 2,
        batch_size=2,
        preprocessing=data.Preprocessing((1, 5), (0.0,), (1.0,)),
        targets=np.eye(2).__getitem__,
        training=True,
        augmentation={"flip": True},
        seed=3,
    )
    whole = [batches[i][0] for i in range(len(batches))]
    batches.first_batch = 3
    assert len(whole) == 5 and len(batches) == 2
    for i in range(2):
        assert np.array_equal(batches[i][0], whole[3 + i])


def test_the_minimum_time_between_checkpoints_is_kept(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(checkpoint, "time", clock)
    keeper = Checkpoint(tmp_path, RECIPE, FiveBatches(), minutes=1)
    saved = []
    monkeypatch.setattr(
        Checkpoint, "save", lambda self, place: saved.append(place)
    )
    keeper.set_model(compiled())
    keeper.on_train_begin()
    for batch, clock.now in enumerate([0, 59, 60, 61]):
        keeper.on_train_batch_begin(batch)
    assert saved[0] == (0, 2)
    with pytest.raises(ValueError, match="`minutes` between two checkpoints"):
        Checkpoint(tmp_path, RECIPE, FiveBatches(), minutes=-1)


def test_restore_without_a_checkpoint_gives_none_and_the_last_one_counts(
    tmp_path, two_checkpoints
):
    assert saver(tmp_path / "none", compiled()).restore(compiled()) is None
    assert restored(two_checkpoints[1]) == (Place(2, 0), 2.0)
    # `last.npz` is missing if a process ends between the two renames.
    two_checkpoints[1].last.unlink()
    with pytest.warns(UserWarning, match="last.npz is missing"):
        assert restored(two_checkpoints[1]) == (Place(1, 0), 1.0)


def test_a_damaged_checkpoint_is_detected(two_checkpoints):
    """If the file is truncated or a bit flipped, the previous one is used."""
    _, keeper = two_checkpoints
    good = keeper.last.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [good[:n] for n in rng.integers(0, len(good), 30)]
    damaged += [b"", good[:-1], good + b"\0", b"\0" * len(good)]
    for place in rng.integers(0, 8 * len(good), 100):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    model = compiled()
    for content in damaged:
        keeper.last.write_bytes(content)
        with pytest.warns(UserWarning, match="last.npz is truncated or alter"):
            assert keeper.restore(model) == Place(1, 0)
    keeper.previous.write_bytes(good[:100])
    with pytest.raises(
        WorkdirError,
        match="(?s)No checkpoint can.*last.npz is.*previous.npz is",
    ):
        keeper.restore(model)


def test_checkpoints_of_other_runs_are_rejected_and_change_nothing(
    tmp_path, two_checkpoints
):
    for keeper, model, message in (
        (saver(tmp_path, compiled(), ANOTHER), compiled(), "other recipe"),
        (saver(tmp_path, compiled(2)), compiled(2), "another network"),
        (
            saver(tmp_path, compiled(), batches=range(4)),
            compiled(),
            "other data: an epoch had 5 steps, now it has 4",
        ),
    ):
        before = model.get_weights()
        with pytest.raises(WorkdirError, match=message):
            keeper.restore(model)
        for a, b in zip(before, model.get_weights(), strict=True):
            assert np.array_equal(a, b)


def test_the_previous_checkpoint_is_used_if_the_last_is_of_another_run(
    tmp_path, two_checkpoints
):
    stranger = saver(tmp_path / "other", compiled(), ANOTHER)
    stranger.save(Place(7, 0))
    _, keeper = two_checkpoints
    keeper.last.write_bytes(stranger.last.read_bytes())
    with pytest.warns(UserWarning, match="last.npz belongs to another recipe"):
        assert restored(keeper) == (Place(1, 0), 1.0)


@pytest.mark.skipif(
    not pathlib.Path("/dev/full").exists(), reason="no /dev/full here"
)
def test_on_a_full_disk_the_last_checkpoint_is_kept(
    two_checkpoints, monkeypatch
):
    model, keeper = two_checkpoints
    model.set_weights([np.full(w.shape, 3.0) for w in model.weights])
    monkeypatch.setattr(files, "_number", lambda: "1")
    temporary = keeper.last.with_name(".1.last.npz")
    temporary.symlink_to("/dev/full")
    with pytest.raises(
        WriteError, match="(?s)Cannot write .*last.npz: No space left"
    ):
        keeper.save(Place(3, 0))
    assert not temporary.is_symlink()
    assert restored(keeper) == (Place(2, 0), 2.0)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_good_checkpoint_remains_if_saving_fails_midway(
    two_checkpoints, monkeypatch, function, call
):
    """The calls are: fsync of the file, rename of the old file, rename of
    the new file, fsync of the folder. Before the last call the new checkpoint
    is in place."""
    model, keeper = two_checkpoints
    model.set_weights([np.full(w.shape, 3.0) for w in model.weights])
    calls, real = [], getattr(files.os, function)

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, function, fail)
        with pytest.raises(WriteError, match="Input/output error"):
            keeper.save(Place(3, 0))
    assert len(calls) == call
    expected = 3 if (function, call) == ("fsync", 2) else 2
    between = (function, call) == (
        "replace",
        2,
    )  # the previous one has been renamed
    with pytest.warns(match="missing") if between else nullcontext():
        assert restored(keeper) == (Place(expected, 0), float(expected))
    assert files.temporaries(keeper.last.parent) == []


def test_weights_that_are_not_finite_are_not_saved(two_checkpoints):
    model, keeper = two_checkpoints
    model.layers[-1].bias.assign([np.nan])
    with pytest.raises(
        DivergedError, match="NaN or infinite after step 3 of ep"
    ):
        keeper.save(Place(2, 3))
    assert restored(keeper) == (Place(2, 0), 2.0)


def test_a_run_in_use_or_without_its_checkpoints_is_refused(npz, tmp_path):
    recipe = small(npz, "epochs=1")
    # A process was killed while it wrote this temporary file.
    (tmp_path / ".4711.recipe.toml").write_text("model = ")
    trainer.fit(recipe, tmp_path, verbose=0)
    assert files.temporaries(tmp_path) == []
    with workdir.locked(tmp_path):
        with pytest.raises(WorkdirError, match="is in use: process [0-9]+ "):
            trainer.fit(recipe, tmp_path, verbose=0)
    trainer.fit(recipe, tmp_path, verbose=0)
    for path in (tmp_path / "backup").iterdir():
        path.unlink()
    with pytest.raises(
        WorkdirError, match="has begun, but no checkpoint of it"
    ):
        trainer.fit(recipe, tmp_path, verbose=0)


def test_rows_of_epochs_without_a_checkpoint_are_removed(tmp_path):
    history = tmp_path / "history.csv"
    workdir.forget_epochs_from(0, history)
    assert not history.exists()
    for text, done, left in (
        ("", 0, ""),
        ("epoch,loss\n0,2\n1,1\n2,", 2, "epoch,loss\n0,2\n1,1\n"),
        ("epoch,loss\n0,2\n1,1\n", 0, "epoch,loss\n"),
        # Version 0.1 called the test images "val".
        ("epoch,val_loss\n0,2\n", 1, "epoch,test_loss\n0,2\n"),
    ):
        history.write_text(text)
        workdir.forget_epochs_from(done, history)
        assert history.read_text() == left


def test_a_checkpoint_of_version_0_1_is_resumed(tmp_path):
    """Its recipe has no keys that were added later."""
    new = {
        "task",
        "validation_split",
        "skip_broken",
        "learning_rate_schedule",
        "learning_rate_drop_steps",
        "warmup_steps",
    }
    lines = RECIPE.to_toml().splitlines(keepends=True)
    old = "".join(x for x in lines if x.split(" = ")[0] not in new)
    assert old.count("\n") < len(lines)
    keeper = saver(tmp_path, compiled())
    assert keeper._is_ours(old)
    assert not keeper._is_ours(old.replace("epochs = 200", "epochs = 100"))
    assert not keeper._is_ours("model = ")
