"""A work directory has one recipe, also if processes start together."""

import subprocess
import sys

import pytest

from keras_dropblock.errors import WorkdirError
from keras_dropblock.runs import workdir
from keras_dropblock.runs.workdir import taken
from keras_dropblock.training import trainer
from keras_dropblock.training.recipe import Recipe
from small_runs import Stop, small

OURS, THEIRS = Recipe(seed=1), Recipe(seed=2)


def recipe_of(folder):
    return Recipe.from_toml(folder / "recipe.toml")


def test_new_and_empty_folders_can_be_used_and_used_again(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "run", tmp_path / "empty"):
        for _ in range(2):
            with taken(folder, OURS):
                assert recipe_of(folder) == OURS


def test_a_folder_of_another_recipe_is_not_changed(tmp_path):
    with taken(tmp_path, OURS):
        pass
    with pytest.raises(WorkdirError, match=r"another recipe.*seed \(1 there"):
        with taken(tmp_path, THEIRS):
            pass
    assert recipe_of(tmp_path) == OURS


def test_no_file_is_written_to_a_folder_that_is_not_a_work_directory(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WorkdirError, match="holds files but no recipe.toml"):
        with taken(tmp_path, OURS):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_process_killed_before_it_wrote_its_recipe_does_not_block_others(
    tmp_path,
):
    (tmp_path / ".lock").write_text("4711")
    (tmp_path / ".4711.recipe.toml").write_text("model = ")
    with taken(tmp_path, OURS):
        assert recipe_of(tmp_path) == OURS


def test_a_second_process_during_the_first_write_leaves_no_trace(
    npz, tmp_path, monkeypatch
):
    """Both find the folder empty. The second one tries to write first."""
    write = Recipe.write

    def write_later(self, path):
        monkeypatch.setattr(Recipe, "write", write)
        with pytest.raises(WorkdirError, match="is in use: "):
            trainer.fit(small(npz, "seed=2"), tmp_path, verbose=0)
        write(self, path)
        raise Stop

    monkeypatch.setattr(Recipe, "write", write_later)
    with pytest.raises(Stop):
        trainer.fit(small(npz, "seed=1"), tmp_path, verbose=0)
    assert recipe_of(tmp_path).seed == 1


def test_a_process_that_locks_the_folder_too_late_raises_an_error(
    tmp_path, monkeypatch
):
    """Another process uses the folder and ends before this one locks it."""
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
from keras_dropblock.training.recipe import Recipe
from keras_dropblock.errors import WorkdirError
from keras_dropblock.runs.workdir import taken
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


def test_only_one_of_two_concurrent_processes_gets_the_folder(tmp_path):
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
