"""A run that is killed repeatedly ends like an uninterrupted one."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from keras_dropblock import files
from small_runs import assert_same, small

TRAINEE = pathlib.Path(__file__).with_name("trainee.py")


def start(recipe, workdir):
    # Use JAX's compilation cache: compilation is most of a start.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(recipe.with_name("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [sys.executable, TRAINEE, recipe, workdir],
        env=os.environ | cache,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, printed = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def wait_for(condition, process):
    """Whether a condition became true before the process ended."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def written_at(path):
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # for example between two renames
        return 0


def hold_in_a_write(process, backup, rng):
    """Stop a trainee at a random time while it writes a checkpoint."""
    while wait_for(lambda: files.temporaries(backup), process):
        time.sleep(rng.uniform(0, 0.003))
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)  # until it has stopped
        if files.temporaries(backup):
            return
        process.send_signal(signal.SIGCONT)  # The write had ended.


def kill(process, backup, rng, within_a_write):
    """Kill a trainee at a random time.

    Returns:
        Whether the kill left an incomplete or unnamed checkpoint. None if the
        trainee had finished before.
    """
    last = backup / "last.npz"
    before = written_at(last)
    try:
        # It trains from here on. Before that, Python starts.
        if wait_for(lambda: written_at(last) > before, process):
            time.sleep(rng.uniform(0, 0.4))
        if within_a_write:
            hold_in_a_write(process, backup, rng)
    finally:
        process.kill()
        _, printed = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), printed
    if process.returncode == 0:
        return None
    return bool(files.temporaries(backup))


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.soak),
    ],
)
def test_a_run_killed_at_random_ends_like_an_uninterrupted_one(
    npz, tmp_path, kills
):
    # 80 steps. A process runs about 10 of them before it is killed.
    recipe = tmp_path / "recipe.toml"
    small(npz, "epochs=16", "learning_rate_drops=[5, 9]").override(
        ["reset_momentum=true"]
    ).write(recipe)
    finish(start(recipe, tmp_path / "whole"))
    rng, within, runs = random.Random(kills), [], 1
    workdir = tmp_path / "run1"
    while len(within) < kills:
        process = start(recipe, workdir)
        outcome = kill(
            process, workdir / "backup", rng, within_a_write=len(within) % 2
        )
        if outcome is None:
            assert_same(tmp_path / "whole", workdir)
            runs += 1
            workdir = tmp_path / f"run{runs}"
        else:
            within.append(outcome)
    finish(start(recipe, workdir))
    assert_same(tmp_path / "whole", workdir)
    print(f"{kills} kills, {sum(within)} in a write, of {runs} runs")
    assert sum(within) > 0
    assert files.temporaries(workdir / "backup") == []
