"""Runs that stop early: on a signal, or because they diverge."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from keras_dropblock import cli, files
from keras_dropblock.errors import (
    DataError,
    DivergedError,
    Interrupted,
    PeerLostError,
    RecipeError,
    WorkdirError,
    WriteError,
)
from keras_dropblock.training import callbacks, plan, signals, trainer
from keras_dropblock.training.checkpoint import Checkpoint, Place
from keras_dropblock.training.recipe import Recipe
from keras_dropblock.training.signals import StopRequests
from small_runs import assert_same, rows, small

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def heeded_interrupts():
    """Do not ignore Ctrl-C, as shells make background jobs do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(monkeypatch, number, event, epoch):
    """Send this process a signal at the first call of an event in an epoch."""
    sent, before = [], getattr(callbacks.EpochOfData, event)

    def hook(self, *arguments, **named):
        before(self, *arguments, **named)
        if self.batches.epoch == epoch and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(callbacks.EpochOfData, event, hook)


@pytest.fixture
def trained_on(monkeypatch):
    """A list to which (epoch, step) of every train step is appended."""
    steps = []

    def note(self, batch, logs=None):
        steps.append((self.batches.epoch, self.batches.first_batch + batch))

    monkeypatch.setattr(callbacks.EpochOfData, "on_train_batch_end", note)
    return steps


def test_a_run_that_is_asked_to_stop_resumes_like_an_uninterrupted_one(
    npz, tmp_path, monkeypatch, capfd, deterministic, trained_on
):
    recipe = small(npz, "epochs=2")
    trainer.fit(recipe, tmp_path / "whole", verbose=0)
    every_step = list(trained_on)
    assert every_step == [(epoch, i) for epoch in (0, 1) for i in range(5)]
    trained_on.clear()
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    for number, event, epoch, code, place in (
        # At the end of batch 0: no further step is trained.
        (signal.SIGTERM, "on_train_batch_end", 0, 143, "step 1 of epoch 1"),
        # At the end of the epoch: it is scored and saved first.
        (signal.SIGINT, "on_epoch_end", 0, 130, "epoch 1"),
    ):
        with monkeypatch.context() as patch:
            send(patch, number, event, epoch)
            with pytest.raises(
                Interrupted, match=f"after {place}[.] A"
            ) as stop:
                # The only checkpoint within an epoch is that of the stop.
                trainer.fit(
                    recipe,
                    tmp_path / "parts",
                    verbose=0,
                    checkpoint_minutes=1000,
                )
        assert stop.value.exit_code == code
        assert cli._outcome(stop.value) == (code, str(stop.value))
        assert (
            f"{number.name}: stopping after this step" in capfd.readouterr().err
        )
        assert handlers == [
            signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)
        ]
    trainer.fit(recipe, tmp_path / "parts", verbose=0)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    # Each run resumed exactly where the previous one stopped.
    sessions = json.loads((tmp_path / "parts" / "run.json").read_text())[
        "sessions"
    ]
    resumed_after = [(s["after_epoch"], s["after_step"]) for s in sessions]
    assert resumed_after == [(0, 0), (0, 1), (1, 0)]
    assert trained_on == every_step


@pytest.mark.slow
def test_skipped_steps_do_not_delay_the_schedule_of_whole_or_stopped_runs(
    npz, tmp_path, monkeypatch, deterministic
):
    optimizers = []
    init = keras.optimizers.LossScaleOptimizer.__init__

    def start_too_high(self, *arguments, **options):
        """Start with a scale that is too large, so that steps are skipped."""
        init(self, *arguments, initial_scale=2.0**24, **options)
        optimizers.append(self)

    monkeypatch.setattr(
        keras.optimizers.LossScaleOptimizer, "__init__", start_too_high
    )
    recipe = small(npz, "epochs=2", "dtype=mixed_float16")
    trainer.fit(recipe, tmp_path / "whole", verbose=0)
    updates = keras.ops.convert_to_numpy(optimizers[-1].iterations)
    assert 0 < updates < 2 * 5
    kept = [float(row["keep_prob"]) for row in rows(tmp_path / "whole")]
    assert kept == [0.9, 0.8]
    with monkeypatch.context() as patch:
        send(patch, signal.SIGTERM, "on_train_batch_end", epoch=1)
        with pytest.raises(Interrupted, match="after step 1 of epoch 2"):
            trainer.fit(recipe, tmp_path / "parts", verbose=0)
    trainer.fit(recipe, tmp_path / "parts", verbose=0)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_second_signal_stops_immediately():
    with pytest.raises(KeyboardInterrupt):
        with StopRequests() as requests:
            os.kill(os.getpid(), signal.SIGINT)
            assert requests.received == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)


def test_ignored_signals_and_other_threads_are_left_alone(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequests() as requests:  # as under nohup
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert requests.received is None
    finally:
        signal.signal(signal.SIGINT, before)

    seen = []

    def elsewhere():
        with StopRequests():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_run_that_diverges_says_where_and_keeps_its_checkpoint(
    npz, tmp_path, monkeypatch
):
    monkeypatch.setattr(signals.StopIfDiverged, "EVERY", 2)
    recipe = small(npz, "learning_rate=1e30", "learning_rate_drops=[]")
    with pytest.raises(
        DivergedError,
        match="diverged: the loss is (nan|inf) after step 2 of epoch 1; it was "
        "finite after no step.*lower `learning_rate`",
    ):
        trainer.fit(recipe, tmp_path, verbose=0, checkpoint_minutes=1)
    run = trainer.Trainer(plan.resolve(recipe))
    keeper = trainer.Checkpoint(tmp_path / "backup", run.recipe, run.train)
    assert keeper.restore(run.model) == Place(0, 0)
    assert all(np.isfinite(w).all() for w in run.model.get_weights())
    assert not (tmp_path / "model.weights.h5").exists()


def test_nan_weights_stop_a_run_with_a_finite_loss():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    guard = signals.StopIfDiverged(batches=None)
    guard.set_model(model)
    guard.on_epoch_end(4, {"loss": 1.0})
    model.layers[0].bias.assign([np.inf])
    with pytest.raises(DivergedError, match="weights or loss are NaN"):
        guard.on_epoch_end(4, {"loss": 1.0})


def test_every_type_of_failure_has_its_exit_code():
    for error, code in (
        (DataError("x"), 2),
        (RecipeError("x"), 2),
        (WorkdirError("x"), 2),
        (DivergedError("x"), 3),
        (WriteError("x"), 4),
        (PermissionError(13, "Permission denied", "x"), 4),
        (PeerLostError("x"), 5),
        (Interrupted(signal.SIGTERM, Place(1, 2)), 143),
        (Interrupted(signal.SIGINT, Place(1, 2)), 130),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a bug"), None),
    ):
        assert cli._outcome(error)[0] == code


def train(npz, workdir):
    return subprocess.Popen(
        [
            sys.executable,
            ROOT / "training" / "train.py",
            f"--workdir={workdir}",
            "--checkpoint_minutes=1000",
            "--set",
            f"dataset={npz}",
            "--set",
            "model=WRN-10-1",
            "--set",
            "epochs=200",
            "--set",
            "batch_size=20",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_command_stops_with_the_exit_code_of_the_signal(
    npz, tmp_path, number, code
):
    process = train(npz, tmp_path)
    while not (tmp_path / "history.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    # Meanwhile a second process cannot use the work directory.
    second = train(npz, tmp_path)
    _, printed = second.communicate(timeout=100)
    assert second.returncode == 2 and f"process {process.pid} trains" in printed
    process.send_signal(number)
    _, printed = process.communicate(timeout=100)
    assert process.returncode == code
    assert "Traceback" not in printed
    stopped = re.search(
        f"Stopped by {number.name} after (.*). A checkpoint is saved. Run the",
        printed.splitlines()[-1],
    )
    recipe = Recipe.from_toml(tmp_path / "recipe.toml")
    run = trainer.Trainer(plan.resolve(recipe))
    checkpoint = Checkpoint(tmp_path / "backup", recipe, run.train)
    assert str(checkpoint.restore(run.model)) == stopped[1]


@pytest.mark.skipif(
    not pathlib.Path("/dev/full").exists(), reason="no /dev/full here"
)
def test_the_history_stays_intact_if_it_cannot_be_written(
    tmp_path, monkeypatch
):
    writer = callbacks.WriteHistory(tmp_path / "history.csv")
    writer.on_epoch_end(0, {"loss": 2.5, "accuracy": 0.5})
    monkeypatch.setattr(files, "_number", lambda: "1")
    (tmp_path / ".1.history.csv").symlink_to("/dev/full")
    with pytest.raises(
        WriteError, match="history.csv: No space left on device"
    ):
        writer.on_epoch_end(1, {"loss": 1.5, "accuracy": 0.75})
    written = (tmp_path / "history.csv").read_text()
    assert written == "epoch,accuracy,loss\n0,0.5,2.5\n"
    monkeypatch.undo()
    writer.on_epoch_end(1, {"loss": 1.5, "accuracy": 0.75})
    assert (tmp_path / "history.csv").read_text() == written + "1,0.75,1.5\n"


@pytest.mark.slow
def test_a_full_disk_stops_the_command_with_its_exit_code(npz, tmp_path):
    # Limit files to 100,000 bytes. A checkpoint has about 940,000.
    limited = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            limited,
            ROOT / "training" / "train.py",
            f"--workdir={tmp_path}",
            "--set",
            f"dataset={npz}",
            "--set",
            "model=WRN-10-1",
            "--set",
            "batch_size=20",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 4
    assert f"error: Cannot write {tmp_path / 'backup' / 'last.npz'}: " in (
        result.stderr
    )
    assert "Traceback" not in result.stderr
