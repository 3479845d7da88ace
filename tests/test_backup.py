"""Backups: what they hold, that resuming loses nothing, what is refused."""

import pathlib
import types
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from keras_dropblock import backup, callbacks, data, files, fitting, workdir
from keras_dropblock.backup import Backup, NotFiniteError, Place
from keras_dropblock.workdir import WorkdirError
from runs import Stop, assert_same, rows, small, weights


class FiveBatches:
    """As much of `data.batches.Batches` as a backup needs."""

    epoch = first_batch = 0

    def __len__(self):
        return 5


def compiled(units=1):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(units)(inputs))
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def saver(folder, model, recipe="recipe", batches=None):
    backup = Backup(folder, recipe, batches or FiveBatches())
    backup.set_model(model)
    return backup


@pytest.fixture
def two_backups(tmp_path):
    """A model and its backup after epoch 2; one more, after epoch 1."""
    model = compiled()
    backup = saver(tmp_path, model)
    for epoch in (1, 2):
        model.set_weights([np.full(w.shape, epoch) for w in model.weights])
        backup.save(Place(epoch, 0))
    return model, backup


def restored(backup):
    """(place, the weights' common value) of a fresh model."""
    model = compiled()
    place = backup.restore(model)
    (value,) = {float(x) for w in model.get_weights() for x in np.ravel(w)}
    return place, value


def stop_as_batch_begins(monkeypatch, epoch, batch):
    def on_train_batch_begin(self, index, logs=None):
        if (self.batches.epoch, self.batches.first_batch + index) == (
            *(epoch, batch),
        ):
            raise Stop

    monkeypatch.setattr(
        callbacks.EpochOfData, "on_train_batch_begin", on_train_batch_begin
    )


def test_a_run_cut_anywhere_ends_as_one_that_was_not(
    npz, tmp_path, monkeypatch, capsys, deterministic
):
    recipe = small(npz, "reset_momentum=true")
    fitting.fit(recipe, tmp_path / "whole", verbose=0)
    for cut in ((0, 3), (2, 4)):  # the rate drops as epoch 2 begins
        with monkeypatch.context() as patch:
            stop_as_batch_begins(patch, *cut)
            with pytest.raises(Stop):
                fitting.fit(
                    *(recipe, tmp_path / "parts"), verbose=0, backup_minutes=0
                )
    # As a batch begins the step before it is not backed up yet.
    assert "The run goes on after step 2 of epoch 1." in capsys.readouterr().out
    fitting.fit(recipe, tmp_path / "parts", verbose=0)
    assert "The run goes on after step 3 of epoch 3." in capsys.readouterr().out
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_a_mirrored_run_resumes_inside_an_epoch(
    npz, tmp_path, monkeypatch, deterministic
):
    recipe = small(npz, "strategy=mirrored", "epochs=1")
    fitting.fit(recipe, tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch:
        stop_as_batch_begins(patch, 0, 4)
        with pytest.raises(Stop):
            fitting.fit(
                *(recipe, tmp_path / "parts"), verbose=0, backup_minutes=0
            )
    fitting.fit(recipe, tmp_path / "parts", verbose=0)
    # A backup holds the mean of the replicas' moving statistics, so these
    # and what is validated with them agree to rounding alone.
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
        *(images, np.arange(10) % 2, 2, 2),
        lambda x: x.astype("float32"),
        training=True,
        augmentation={"flip": True},
        seed=3,
    )
    whole = [batches[i][0] for i in range(len(batches))]
    batches.first_batch = 3
    assert len(whole) == 5 and len(batches) == 2
    for i in range(2):
        assert np.array_equal(batches[i][0], whole[3 + i])


def test_time_between_backups_is_kept(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(backup, "time", clock)
    keeper = Backup(tmp_path, "recipe", FiveBatches(), minutes=1)
    saved = []
    monkeypatch.setattr(Backup, "save", lambda self, place: saved.append(place))
    keeper.set_model(compiled())
    keeper.on_train_begin()
    for batch, clock.now in enumerate([0, 59, 60, 61]):
        keeper.on_train_batch_begin(batch)
    assert saved[0] == (0, 2)
    with pytest.raises(ValueError, match="`minutes` between two backups"):
        Backup(tmp_path, "recipe", FiveBatches(), minutes=-1)


def test_no_backup_is_no_place_and_the_last_one_counts(tmp_path, two_backups):
    assert saver(tmp_path / "none", compiled()).restore(compiled()) is None
    assert restored(two_backups[1]) == (Place(2, 0), 2.0)
    # The one before, should a process end between the two changes of name.
    two_backups[1].last.unlink()
    with pytest.warns(UserWarning, match="last.npz is missing"):
        assert restored(two_backups[1]) == (Place(1, 0), 1.0)


def test_a_damaged_backup_is_told_from_a_good_one(two_backups):
    """Cut at any length, or any bit flipped: the one before is taken."""
    _, keeper = two_backups
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
        WorkdirError, match="(?s)No backup can.*last.npz is.*previous.npz is"
    ):
        keeper.restore(model)


def test_foreign_backups_are_refused_and_change_nothing(tmp_path, two_backups):
    for keeper, model, message in (
        (saver(tmp_path, compiled(), "another"), compiled(), "other recipe"),
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


def test_a_foreign_last_backup_gives_way_to_the_run_s_own(
    tmp_path, two_backups
):
    stranger = saver(tmp_path / "other", compiled(), "another")
    stranger.save(Place(7, 0))
    _, keeper = two_backups
    keeper.last.write_bytes(stranger.last.read_bytes())
    with pytest.warns(UserWarning, match="last.npz belongs to another recipe"):
        assert restored(keeper) == (Place(1, 0), 1.0)


@pytest.mark.skipif(
    not pathlib.Path("/dev/full").exists(), reason="no /dev/full here"
)
def test_a_full_disk_leaves_the_last_backup(two_backups, monkeypatch):
    model, keeper = two_backups
    model.set_weights([np.full(w.shape, 3.0) for w in model.weights])
    monkeypatch.setattr(files, "_number", lambda: "1")
    temporary = keeper.last.with_name(".1.last.npz")
    temporary.symlink_to("/dev/full")
    with pytest.raises(
        files.WriteError, match="(?s)Cannot write .*last.npz: No space left"
    ):
        keeper.save(Place(3, 0))
    assert not temporary.is_symlink()
    assert restored(keeper) == (Place(2, 0), 2.0)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_backup_that_fails_midway_leaves_a_good_one(
    two_backups, monkeypatch, function, call
):
    """Calls: fsync of the file, renames of the old and the new, fsync of
    the folder; by then the new one is there."""
    model, keeper = two_backups
    model.set_weights([np.full(w.shape, 3.0) for w in model.weights])
    calls, real = [], getattr(files.os, function)

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, function, fail)
        with pytest.raises(files.WriteError, match="Input/output error"):
            keeper.save(Place(3, 0))
    assert len(calls) == call
    expected = 3 if (function, call) == ("fsync", 2) else 2
    between = (function, call) == ("replace", 2)  # the one before has gone on
    with pytest.warns(match="missing") if between else nullcontext():
        assert restored(keeper) == (Place(expected, 0), float(expected))
    assert files.temporaries(keeper.last.parent) == []


def test_weights_that_are_not_finite_are_not_backed_up(two_backups):
    model, keeper = two_backups
    model.layers[-1].bias.assign([np.nan])
    with pytest.raises(NotFiniteError, match="not finite after step 3 of ep"):
        keeper.save(Place(2, 3))
    assert restored(keeper) == (Place(2, 0), 2.0)


def test_a_run_in_use_or_without_its_backups_is_refused(npz, tmp_path):
    recipe = small(npz, "epochs=1")
    # A process was killed as it wrote this: no file of anybody's.
    (tmp_path / ".4711.recipe.toml").write_text("model = ")
    fitting.fit(recipe, tmp_path, verbose=0)
    assert files.temporaries(tmp_path) == []
    with workdir.locked(tmp_path):
        with pytest.raises(WorkdirError, match="is in use: process [0-9]+ "):
            fitting.fit(recipe, tmp_path, verbose=0)
    fitting.fit(recipe, tmp_path, verbose=0)
    for path in (tmp_path / "backup").iterdir():
        path.unlink()
    with pytest.raises(WorkdirError, match="has begun, but no backup of it"):
        fitting.fit(recipe, tmp_path, verbose=0)


def test_rows_of_epochs_without_a_backup_are_forgotten(tmp_path):
    history = tmp_path / "history.csv"
    workdir.forget_epochs_from(0, history)
    assert not history.exists()
    for text, done, left in (
        ("", 0, ""),
        ("epoch,loss\n0,2\n1,1\n2,", 2, "epoch,loss\n0,2\n1,1\n"),
        ("epoch,loss\n0,2\n1,1\n", 0, "epoch,loss\n"),
    ):
        history.write_text(text)
        workdir.forget_epochs_from(done, history)
        assert history.read_text() == left
