"""How a run ends before its end: asked to, or because it diverged."""

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

from keras_dropblock import assembly, callbacks, cli, files, fitting, stopping
from keras_dropblock.backup import NotFiniteError, Place
from keras_dropblock.data import DataError
from keras_dropblock.processes import LostError
from keras_dropblock.recipes import Recipe, RecipeError
from keras_dropblock.stopping import Interrupted, StopRequests
from keras_dropblock.workdir import WorkdirError
from runs import assert_same, rows, small

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def heeded_interrupts():
    """A shell has background jobs ignore Ctrl-C, these tests among them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(monkeypatch, number, event, epoch):
    """Send this process a signal at the first such event of an epoch."""
    sent, before = [], getattr(callbacks.EpochOfData, event)

    def hook(self, *arguments, **named):
        before(self, *arguments, **named)
        if self.batches.epoch == epoch and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(callbacks.EpochOfData, event, hook)


@pytest.fixture
def trained_on(monkeypatch):
    """A list that gets the (epoch, step) of every step that is trained."""
    steps = []

    def note(self, batch, logs=None):
        steps.append((self.batches.epoch, self.batches.first_batch + batch))

    monkeypatch.setattr(callbacks.EpochOfData, "on_train_batch_end", note)
    return steps


def test_a_run_that_is_asked_to_stop_goes_on_as_if_it_had_not(
    npz, tmp_path, monkeypatch, capfd, deterministic, trained_on
):
    recipe = small(npz, "epochs=2")
    fitting.fit(recipe, tmp_path / "whole", verbose=0)
    every_step = list(trained_on)
    assert every_step == [(epoch, i) for epoch in (0, 1) for i in range(5)]
    trained_on.clear()
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    for number, event, epoch, code, place in (
        # As batch 0 ends: no more is trained.
        (signal.SIGTERM, "on_train_batch_end", 0, 143, "step 1 of epoch 1"),
        # In validation: the epoch ends first.
        (signal.SIGINT, "on_test_begin", 0, 130, "epoch 1"),
    ):
        with monkeypatch.context() as patch:
            send(patch, number, event, epoch)
            with pytest.raises(Interrupted, match=f"after {place}, w") as stop:
                # No backup within an epoch but the one that stopping makes.
                fitting.fit(
                    *(recipe, tmp_path / "parts"),
                    verbose=0,
                    backup_minutes=1000,
                )
        assert stop.value.exit_code == code
        assert cli._outcome(stop.value) == (code, str(stop.value))
        assert (
            f"{number.name}: stopping with a backup" in capfd.readouterr().err
        )
        assert handlers == [
            signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)
        ]
    fitting.fit(recipe, tmp_path / "parts", verbose=0)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    # Each resumed exactly where the one before stopped, and repeated nothing.
    sessions = json.loads((tmp_path / "parts" / "run.json").read_text())[
        "sessions"
    ]
    resumed_after = [(s["after_epoch"], s["after_step"]) for s in sessions]
    assert resumed_after == [(0, 0), (0, 1), (1, 0)]
    assert trained_on == every_step


@pytest.mark.slow
def test_skipped_steps_delay_the_schedule_of_no_run_whole_or_stopped(
    npz, tmp_path, monkeypatch, deterministic
):
    optimizers = []
    init = keras.optimizers.LossScaleOptimizer.__init__

    def start_too_high(self, *arguments, **options):
        """Loss scaling halves this scale until gradients fit into float16."""
        init(self, *arguments, initial_scale=2.0**24, **options)
        optimizers.append(self)

    monkeypatch.setattr(
        keras.optimizers.LossScaleOptimizer, "__init__", start_too_high
    )
    recipe = small(npz, "epochs=2", "dtype=mixed_float16")
    fitting.fit(recipe, tmp_path / "whole", verbose=0)
    updates = keras.ops.convert_to_numpy(optimizers[-1].iterations)
    assert 0 < updates < 2 * 5
    kept = [float(row["keep_prob"]) for row in rows(tmp_path / "whole")]
    assert kept == [0.9, 0.8]
    with monkeypatch.context() as patch:
        send(patch, signal.SIGTERM, "on_train_batch_end", epoch=1)
        with pytest.raises(Interrupted, match="after step 1 of epoch 2"):
            fitting.fit(recipe, tmp_path / "parts", verbose=0)
    fitting.fit(recipe, tmp_path / "parts", verbose=0)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_second_request_acts_at_once():
    with pytest.raises(KeyboardInterrupt):
        with StopRequests() as requests:
            os.kill(os.getpid(), signal.SIGINT)
            assert requests.received == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_ignored_or_not_ours_to_handle_stays_so(monkeypatch):
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


def test_a_run_that_diverges_says_where_and_keeps_its_backup(
    npz, tmp_path, monkeypatch
):
    monkeypatch.setattr(stopping.StopUnlessFinite, "EVERY", 2)
    recipe = small(npz, "learning_rate=1e30", "learning_rate_drops=[]")
    with pytest.raises(
        NotFiniteError,
        match="The loss is (nan|inf) after step 2 of epoch 1; it was finite "
        "after no step.*lower `learning_rate`",
    ):
        fitting.fit(recipe, tmp_path, verbose=0, backup_minutes=1)
    run = assembly.prepare(recipe)
    keeper = fitting.Backup(
        tmp_path / "backup", run.recipe.to_toml(), run.train
    )
    assert keeper.restore(run.model) == Place(0, 0)
    assert all(np.isfinite(w).all() for w in run.model.get_weights())
    assert not (tmp_path / "model.weights.h5").exists()


def test_weights_that_are_no_numbers_end_a_run_whose_loss_is_one():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    guard = stopping.StopUnlessFinite(batches=None)
    guard.set_model(model)
    guard.on_epoch_end(4, {"loss": 1.0})
    model.layers[0].bias.assign([np.inf])
    with pytest.raises(NotFiniteError, match="or the loss are not finite"):
        guard.on_epoch_end(4, {"loss": 1.0})


def test_every_way_to_fail_has_its_exit_code():
    for error, code in (
        (DataError("x"), 2),
        (RecipeError("x"), 2),
        (WorkdirError("x"), 2),
        (NotFiniteError("x"), 3),
        (files.WriteError("x"), 4),
        (PermissionError(13, "Permission denied", "x"), 4),
        (LostError("x"), 5),
        (Interrupted(signal.SIGTERM, Place(1, 2)), 143),
        (Interrupted(signal.SIGINT, Place(1, 2)), 130),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a bug"), None),
    ):
        assert cli._outcome(error)[0] == code


def train(npz, workdir):
    return subprocess.Popen(
        [
            *(sys.executable, ROOT / "training" / "train.py"),
            *(f"--workdir={workdir}", "--backup_minutes=1000"),
            *("--set", f"dataset={npz}", "--set", "model=WRN-10-1"),
            *("--set", "epochs=200", "--set", "batch_size=20"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_command_stops_with_its_code(npz, tmp_path, number, code):
    process = train(npz, tmp_path)
    while not (tmp_path / "history.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    # Meanwhile a second process is refused.
    second = train(npz, tmp_path)
    _, told = second.communicate(timeout=100)
    assert second.returncode == 2 and f"process {process.pid} trains" in told
    process.send_signal(number)
    _, told = process.communicate(timeout=100)
    assert process.returncode == code
    assert "Traceback" not in told
    stopped = re.search(
        f"Stopped by {number.name} after (.*), which is backed up. The same c",
        told.splitlines()[-1],
    )
    run = assembly.prepare(Recipe.from_toml(tmp_path / "recipe.toml"))
    keeper = fitting.Backup(
        tmp_path / "backup", run.recipe.to_toml(), run.train
    )
    assert str(keeper.restore(run.model)) == stopped[1]


@pytest.mark.skipif(
    not pathlib.Path("/dev/full").exists(), reason="no /dev/full here"
)
def test_a_history_that_cannot_grow_stays_whole(tmp_path, monkeypatch):
    writer = callbacks.WriteHistory(tmp_path / "history.csv")
    writer.on_epoch_end(0, {"loss": 2.5, "accuracy": 0.5})
    monkeypatch.setattr(files, "_number", lambda: "1")
    (tmp_path / ".1.history.csv").symlink_to("/dev/full")
    with pytest.raises(
        files.WriteError, match="history.csv: No space left on device"
    ):
        writer.on_epoch_end(1, {"loss": 1.5, "accuracy": 0.75})
    written = (tmp_path / "history.csv").read_text()
    assert written == "epoch,accuracy,loss\n0,0.5,2.5\n"
    monkeypatch.undo()
    writer.on_epoch_end(1, {"loss": 1.5, "accuracy": 0.75})
    assert (tmp_path / "history.csv").read_text() == written + "1,0.75,1.5\n"


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_its_code(npz, tmp_path):
    # No file may grow beyond 100,000 bytes; a backup has about 940,000.
    limited = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run(
        [
            *(sys.executable, "-c", limited, ROOT / "training" / "train.py"),
            *(f"--workdir={tmp_path}", "--set", f"dataset={npz}"),
            *("--set", "model=WRN-10-1", "--set", "batch_size=20"),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 4
    assert f"error: Cannot write {tmp_path / 'backup' / 'last.npz'}: " in (
        result.stderr
    )
    assert "Traceback" not in result.stderr
