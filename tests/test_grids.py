"""Grids: all combinations, each in a folder with a readable name."""

import itertools
import pathlib
import re

import pytest

from keras_dropblock.errors import RecipeError
from keras_dropblock.search import grids
from keras_dropblock.training.recipe import Recipe

HERE = pathlib.Path("runs")


def runs(grid, recipe=None, seeds=1):
    recipe = recipe or Recipe()
    return grids.runs(recipe, grids.checked(recipe, grid), HERE, seeds)


def test_every_combination_is_there_once_with_every_seed():
    grid = {"block_size": [1, 3], "keep_prob": [0.8, 0.9, 1]}
    found = runs(grid, seeds=2)
    assert [
        (r.recipe.seed, r.recipe.block_size, r.recipe.keep_prob) for r in found
    ] == [*itertools.product([0, 1], [1, 3], [0.8, 0.9, 1.0])]
    assert len({run.workdir for run in found}) == 12
    for run in found:
        assert run.point == (run.recipe.block_size, run.recipe.keep_prob)
        # Keys that are not in the grid are unchanged.
        rest = {"block_size": 7, "keep_prob": 1.0, "seed": 0}
        assert run.recipe.replaced(rest, "") == Recipe()


def test_a_folder_is_named_after_its_values_in_any_order_of_the_keys():
    grid = {
        "model": ["WRN-40-2-B(3,1,3)"],
        "keep_prob": [0.9],
        "dropblock_groups": [[2, 3]],
        "dropblock_skip": [True],
    }
    name = (
        "model=WRN-40-2-B-3-1-3,keep_prob=0.9,dropblock_groups=2-3,"
        "dropblock_skip=true,seed=0"
    )
    backwards = dict(reversed(grid.items()))
    for each in (grid, backwards):
        assert [run.workdir for run in runs(each)] == [HERE / name]
    assert runs({"dropblock_groups": [[]]})[0].workdir.name == (
        "dropblock_groups=none,seed=0"
    )
    assert runs({})[0].workdir.name == "seed=0"


def test_seeds_count_from_the_recipes():
    found = runs({}, Recipe(seed=5), seeds=3)
    assert [run.recipe.seed for run in found] == [5, 6, 7]
    with pytest.raises(RecipeError, match="`seeds` must be >= 1. .*seeds=0"):
        runs({}, seeds=0)
    with pytest.raises(RecipeError, match="--seeds: `seed` must be in"):
        runs({}, Recipe(seed=2**32 - 1), seeds=2)


def test_a_grid_is_read_as_toml():
    assert grids.parse(
        ["block_size=[1, 3]", "dropblock_groups = [[3], [2, 3]]"]
    ) == {"block_size": [1, 3], "dropblock_groups": [[3], [2, 3]]}


@pytest.mark.parametrize(
    "texts, message",
    [
        (["block_size"], "--grid must read key=value. Received: 'block_size'"),
        (["seed=[0, 1]"], "`seed` cannot be in a grid"),
        (["task=['a', 'b']"], "`task` cannot vary"),
        (["blocksize=[1]"], "unknown key `blocksize`. Did you mean `block_s"),
        (["block_size=[1, 0]"], "--grid: `block_size` must be >= 1"),
        (["block_size=3"], "`block_size` must have a list of values"),
        (["block_size=[]"], "`block_size` must have a list of values"),
        (
            ["schedule=[linear]"],
            "with strings in quotes. Received: schedule='[l",
        ),
        (["dropblock_groups=[2, 3]"], "must be a list of ints. Received: drop"),
        (["block_size=[3, 1, 3]"], "distinct values. Received: block_size=[3,"),
        (["keep_prob=[1, 1.0]"], "`keep_prob` must have distinct values"),
        (["cutout=[1]", "cutout=[2]"], "`cutout` is given twice"),
        (["dataset=['a/b.npz', 'a-b.npz']"], "would share the folder dataset="),
    ],
)
def test_a_wrong_grid_is_one_error_that_names_it(texts, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as error:
        runs(grids.parse(texts))
    assert str(error.value).startswith("--grid")
