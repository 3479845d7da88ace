"""Several processes that train one model with JAX: `strategy` data_parallel.

Two real processes run on this machine; each is `peer.py`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_dropblock import data
from keras_dropblock.errors import PeerLostError
from keras_dropblock.training import processes, strategies, trainer
from keras_dropblock.training.processes import HEARTBEAT_SECONDS
from keras_dropblock.training.recipe import RecipeError
from small_runs import rows, small, weights
from test_multi_worker import free_ports

PEER = Path(__file__).with_name("peer.py")
on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="for the JAX backend"
)


# --- shares of a batch


def plain(images):
    """Preprocessing that leaves pixels as they are."""
    channels = images.shape[-1]
    return data.Preprocessing(
        images.shape[1:3], (0.0,) * channels, (1.0,) * channels
    )


def batches(images, **arguments):
    return data.ArrayBatches(
        images,
        np.arange(len(images)) % 7,
        batch_size=12,
        preprocessing=plain(images),
        targets=np.eye(7, dtype="float32").__getitem__,
        training=True,
        augmentation={"pad": 2, "flip": True, "cutout": 3},
        seed=5,
        **arguments,
    )


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_shares_of_a_batch_add_up_to_the_batch(parts):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3), "uint8")
    whole = batches(images)
    shares = [batches(images, share=(i, parts)) for i in range(parts)]
    for b in (whole, *shares):
        b.epoch = 3
    for index in range(len(whole)):
        parted = zip(*(b[index] for b in shares), strict=True)
        for one, several in zip(whole[index], parted, strict=True):
            assert [len(part) for part in several] == [12 // parts] * parts
            assert np.array_equal(one, np.concatenate(several))


def test_a_batch_that_cannot_be_shared_is_refused():
    images = np.zeros((30, 4, 4, 1), "uint8")
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of"):
        batches(images, share=(0, 5))
    with pytest.raises(ValueError, match="`mixup` must be 0 with several"):
        data.ArrayBatches(
            images,
            np.arange(30),
            batch_size=10,
            preprocessing=plain(images),
            targets=np.eye(30, dtype="float32").__getitem__,
            training=True,
            augmentation={"mixup": 0.2},
            share=(0, 2),
        )


# --- invalid arguments, and a single process


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("localhost", 2, 0), "`coordinator` must read host:port"),
        (("localhost:http", 2, 0), "`coordinator` must read host:port"),
        (("localhost:1234", 1, 0), "`processes` must be >= 2"),
        (("localhost:1234", 2, 2), "Received: processes=2, process=2"),
        (("localhost:1234", 2, -1), "`process` must be from 0 to"),
    ],
)
def test_wrong_processes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.join(*arguments)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="not for JAX")
def test_other_backends_are_refused():
    with pytest.raises(ValueError, match="Several processes need the JAX back"):
        processes.join("localhost:1234", 2, 0)
    with pytest.raises(RecipeError, match="data_parallel needs the JAX"):
        strategies.check(small("x.npz", "strategy=data_parallel"))


@pytest.mark.parametrize(
    "given", [("localhost:1234", None, None), (None, 2, 1), ("here", 2, 0)]
)
def test_flags_that_do_not_belong_together_are_a_usage_error(given):
    from absl import app

    from keras_dropblock.cli import train

    with pytest.raises(app.UsageError, match="belong together|must read host"):
        train._join(*given)


def test_a_single_process_acts_as_the_primary_process(monkeypatch):
    assert (processes.count(), processes.index()) == (1, 0)
    assert processes.is_first()
    assert processes.from_first(lambda: b"bytes") == b"bytes"
    assert processes.in_first(lambda: {"any": "thing"}) == {"any": "thing"}
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("it left"))
    processes.leave(1)
    with pytest.raises(ZeroDivisionError), processes.peer_failures_raised():
        processes.from_first(lambda: 1 / 0)


def test_several_processes_need_strategy_data_parallel(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(RecipeError, match="must be data_parallel with several"):
        strategies.check(small("x.npz"))


@on_jax
@pytest.mark.parametrize(
    "change, message",
    [
        ("batch_size=21", "multiple of their number, 2. Received: batch_size"),
        ("data_on_device=true", "keeps all images on one device"),
        ("augmentation=resized_crop_flip", "needs images in memory"),
    ],
)
def test_recipes_that_cannot_run_in_several_processes_are_rejected(
    monkeypatch, change, message
):
    import jax

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    recipe = small("x.npz", "strategy=data_parallel")
    strategies.check(recipe)
    with pytest.raises(RecipeError, match=message):
        strategies.check(recipe.override([change]))
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    with pytest.raises(RecipeError, match="same number of devices"):
        strategies.check(recipe)


def test_every_process_gets_the_same_message_about_different_texts(monkeypatch):
    texts = [b"a = 1\nb = 2\n"] * 2
    monkeypatch.setattr(processes, "_gather", lambda text: texts)
    assert processes.difference("") is None
    texts.append(b"a = 1\nb = 3\n")
    assert processes.difference("") == (
        "Process 2 has ['b = 3'], process 0 has ['b = 2']."
    )


def test_a_dead_peer_is_distinguished_from_other_errors(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(processes, "count", lambda: 2)
    for error in (
        jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed"),
        ValueError("UNKNOWN: Gloo AllGather failed"),
    ):
        with pytest.raises(
            PeerLostError, match="another process has.*JAX reports: UNK"
        ):
            with processes.peer_failures_raised():
                raise error
    for error in (ValueError("x"), RecipeError("x"), OSError("UNKNOWN: x")):
        with (
            pytest.raises(type(error)) as raised,
            processes.peer_failures_raised(),
        ):
            raise error
        assert raised.value is error


# --- two processes


def train(tmp_path, npz, *flags, count=2, **by_process):
    """Start processes on the same run and wait for all of them.

    Args:
        flags: flags of all processes.
        count: number of processes. A single process gets two devices.
        by_process: environment variables and, as `flags`, further flags, with
            one value for each process.

    Returns:
        For each process, a tuple (exit code, output, seconds between the end
        of the first process and its own end).
    """
    recipe = tmp_path / "recipe.toml"
    small(npz, "epochs=2", "learning_rate_drops=[2]").override(
        ["strategy=data_parallel"]
    ).write(recipe)
    (port,) = free_ports(1)
    started = []
    for i in range(count):
        own = {key: values[i] for key, values in by_process.items()}
        own_flags = own.pop("flags", ())
        output = open(tmp_path / f"output{i}", "w+")
        command = [
            sys.executable,
            PEER,
            f"--recipe={recipe}",
            f"--workdir={tmp_path / f'run{i}'}",
            *flags,
            *own_flags,
        ]
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                # Compilation is most of a start, so all tests share a cache.
                "JAX_COMPILATION_CACHE_DIR": str(Path(npz).parent / "jax"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "READ": str(tmp_path / f"read{i}"),
                **place_of(i, count, port),
                **own,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        started.append((process, output))
    return ends(started)


def place_of(index, count, port):
    """The environment of one of several processes, or of one with 2 devices."""
    if count == 1:
        two = "--xla_force_host_platform_device_count=2"
        return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {two}"}
    return {
        "KERAS_DROPBLOCK_COORDINATOR": f"localhost:{port}",
        "KERAS_DROPBLOCK_PROCESSES": str(count),
        "KERAS_DROPBLOCK_PROCESS": str(index),
    }


def ends(started):
    times = {}
    give_up = time.monotonic() + 200
    try:
        while len(times) < len(started):
            for i, (process, _) in enumerate(started):
                if i not in times and process.poll() is not None:
                    times[i] = time.monotonic()
            assert time.monotonic() < give_up, "It hangs."
            time.sleep(0.05)
    finally:
        for process, _ in started:
            process.kill()
    results = []
    for i, (process, output) in enumerate(started):
        with output:
            output.seek(0)
            printed = output.read()
        after = times[i] - min(times.values())
        results.append((process.returncode, printed, after))
    return results


@pytest.fixture(scope="module")
def whole(npz, tmp_path_factory):
    """The work directory of a run with one process and one device."""
    workdir = tmp_path_factory.mktemp("whole")
    recipe = small(npz, "epochs=2", "learning_rate_drops=[2]")
    keras.utils.set_random_seed(0)
    trainer.fit(recipe, workdir, verbose=0)
    return workdir


def assert_close(workdir, other):
    """Check that weights, history and scores agree within 1e-5."""
    for a, b in zip(weights(workdir), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert len(rows(workdir)) == len(rows(other)) == 2
    for row, expected in zip(rows(workdir), rows(other), strict=True):
        del row["images_per_second"], expected["images_per_second"]
        row = {key: float(value) for key, value in row.items()}
        assert row == pytest.approx(
            {key: float(value) for key, value in expected.items()}, abs=1e-5
        )


@pytest.mark.slow
@pytest.mark.processes
@on_jax
def test_two_processes_train_like_one(npz, tmp_path, whole):
    """Includes DropBlock and Dropout: masks are drawn for the whole batch."""
    ended = train(tmp_path, npz)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_close(tmp_path / "run0", whole)
    # Only the primary process prints and writes. No test image is lost.
    assert "on 43 images after 2 epochs" in ended[0][1]
    assert "epochs" not in ended[1][1] and not (tmp_path / "run1").exists()
    assert (tmp_path / "run0" / "metrics.json").exists()
    # Each process reads only its half of each batch. The first batch is read
    # twice, since Keras inspects it before training.
    seen = [
        [
            list(map(int, line.split()))
            for line in (tmp_path / f"read{i}").read_text().splitlines()
        ]
        for i in range(2)
    ]
    assert seen[0][0] == seen[0][1] and seen[1][0] == seen[1][1]
    assert [len(lines) for lines in seen] == [11, 11]  # 1 + 2 epochs * 5
    for epoch in range(2):
        order = np.random.default_rng([0, epoch]).permutation(100)
        for batch in range(5):
            halves = [lines[1 + 5 * epoch + batch] for lines in seen]
            expected = order[20 * batch : 20 * (batch + 1)].reshape(2, 10)
            assert halves == expected.tolist()


@pytest.mark.slow
@pytest.mark.processes
@on_jax
def test_processes_that_are_stopped_or_killed_can_resume(npz, tmp_path, whole):
    minutes = "--checkpoint_minutes=0"
    # SIGTERM to one process stops both after the same step.
    ended = train(
        tmp_path, npz, minutes, PAUSE=("0.3", "0.3"), SIGNAL=("", "15,0,1")
    )
    assert [code for code, _, _ in ended] == [143, 143], ended
    stops = [printed.splitlines()[-1] for _, printed, _ in ended]
    assert stops[0] == stops[1]
    assert stops[0].startswith("Stopped by SIGTERM after ")
    # If either process is killed, the other one stops too.
    for victim, codes in ((1, {5}), (0, {5, -signal.SIGABRT})):
        signals = ["", ""]
        signals[victim] = f"9,1,{3 - victim}"
        ended = train(tmp_path, npz, minutes, SIGNAL=signals)
        code, printed, after = ended[1 - victim]
        assert ended[victim][0] == -signal.SIGKILL, ended
        assert code in codes and after < HEARTBEAT_SECONDS + 10, ended
        assert (
            "another process has" in printed or "another task died" in printed
        )
    # Both have resumed twice. Now one process with two devices resumes.
    ended = train(tmp_path, npz, count=1)
    assert [code for code, _, _ in ended] == [0], ended
    assert "The run resumes after step 2 of epoch 2" in ended[0][1]
    assert_close(tmp_path / "run0", whole)
    assert not (tmp_path / "run1").exists()


@pytest.mark.slow
@pytest.mark.processes
@on_jax
def test_processes_with_different_recipes_raise_an_error(npz, tmp_path):
    ended = train(tmp_path, npz, flags=((), ("--set=seed=1",)))
    for code, printed, _ in ended:
        assert code == 2, ended
        assert (
            "Process 1 has ['seed = 1'], process 0 has ['seed = 0']" in printed
        )
    assert not (tmp_path / "run0").exists()
