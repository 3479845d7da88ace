"""Whose a work directory is, also when two processes start together."""

import subprocess
import sys

import pytest

from keras_dropblock import fitting, workdir
from keras_dropblock.recipes import Recipe
from keras_dropblock.workdir import WorkdirError, taken
from runs import Stop, small

OURS, THEIRS = Recipe(seed=1), Recipe(seed=2)


def recipe_of(folder):
    return Recipe.from_toml(folder / "recipe.toml")


def test_a_new_and_an_empty_folder_are_taken_and_taken_again(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "run", tmp_path / "empty"):
        for _ in range(2):
            with taken(folder, OURS):
                assert recipe_of(folder) == OURS


def test_a_folder_of_another_recipe_stays_as_it_is(tmp_path):
    with taken(tmp_path, OURS):
        pass
    with pytest.raises(WorkdirError, match=r"another recipe.*seed \(1 there"):
        with taken(tmp_path, THEIRS):
            pass
    assert recipe_of(tmp_path) == OURS


def test_nothing_is_left_in_a_folder_that_is_no_run_s(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WorkdirError, match="holds files but no recipe.toml"):
        with taken(tmp_path, OURS):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_process_killed_before_it_wrote_its_recipe_blocks_nobody(tmp_path):
    (tmp_path / ".lock").write_text("4711")
    (tmp_path / ".4711.recipe.toml").write_text("model = ")
    with taken(tmp_path, OURS):
        assert recipe_of(tmp_path) == OURS


def test_who_comes_while_another_writes_its_recipe_leaves_no_trace(
    npz, tmp_path, monkeypatch
):
    """Both find the folder empty; the second comes first to the writing."""
    write = Recipe.write

    def write_later(self, path):
        monkeypatch.setattr(Recipe, "write", write)
        with pytest.raises(WorkdirError, match="is in use: "):
            fitting.fit(small(npz, "seed=2"), tmp_path, verbose=0)
        write(self, path)
        raise Stop

    monkeypatch.setattr(Recipe, "write", write_later)
    with pytest.raises(Stop):
        fitting.fit(small(npz, "seed=1"), tmp_path, verbose=0)
    assert recipe_of(tmp_path).seed == 1


def test_who_finds_the_folder_empty_and_locks_it_too_late_is_refused(
    tmp_path, monkeypatch
):
    """Another process takes the folder, and ends, before this one's lock."""
    locked = workdir.locked

    def lock_later(folder):
        monkeypatch.setattr(workdir, "locked", locked)
        with taken(folder, THEIRS):
            pass
        return locked(folder)

    monkeypatch.setattr(workdir, "locked", lock_later)
    with pytest.raises(WorkdirError, match=r"another recipe.*seed \(2 there"):
        with taken(tmp_path, OURS):
            pass
    assert recipe_of(tmp_path) == THEIRS


TAKE = """
import pathlib, sys
from keras_dropblock.recipes import Recipe
from keras_dropblock.workdir import WorkdirError, taken
folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    with taken(folder, Recipe(seed=seed)):
        print("has", flush=True)
        sys.stdin.readline()
except WorkdirError as error:
    print("refused", flush=True)
"""


def test_of_processes_that_start_together_one_has_the_folder(tmp_path):
    contestants = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path / "run"), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    try:
        for process in contestants:
            assert process.stdout.readline() == "ready\n"
        for process in contestants:
            print(file=process.stdin, flush=True)
        outcomes = [p.stdout.readline().strip() for p in contestants]
        assert sorted(outcomes) == ["has", "refused"]
        assert recipe_of(tmp_path / "run").seed == outcomes.index("has")
    finally:
        for process in contestants:
            process.communicate("\n")
