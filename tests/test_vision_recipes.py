"""Recipes of detection and segmentation."""

import pathlib
import re

import pytest

from keras_dropblock.training import plan
from keras_dropblock.training.recipe import Recipe

FOLDER = pathlib.Path(__file__).parents[1] / "training" / "recipes" / "vision"
RECIPES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_run_as_its_head_says(path):
    text = path.read_text("utf-8")
    head = re.match(r"(?:#.*\n)+", text)[0]
    assert f"--recipe=training/recipes/vision/{path.name} " in head
    assert re.search(r"Not run by this project yet|Result: ", head)
    recipe = Recipe.from_toml(path)
    plan.check(plan.settled(recipe))
    default = Recipe(task=type(recipe.task)()).flat()
    keys = re.findall(r"^(\w+) =", text, re.M)
    same = [k for k in keys if k != "task" and recipe.flat()[k] == default[k]]
    assert not same and len(keys) == len({*keys})


def test_recipes_with_and_without_dropblock_differ_in_nothing_else():
    def changed(a, b):
        one, other = (
            Recipe.from_toml(FOLDER / f"{name}.toml").flat() for name in (a, b)
        )
        return {key for key in one if one[key] != other[key]}

    camvid = "fcn_resnet_18_0p5_camvid_cpu"
    assert changed(camvid, f"{camvid}_head_dropblock") == {
        "head_keep_prob",
        "head_block_size",
    }
    assert changed(camvid, f"{camvid}_dropblock") == {"keep_prob", "block_size"}


def test_each_row_of_the_papers_tables_is_a_recipe_with_other_values():
    """The rows of tables 3 and 4 of the DropBlock paper in docs/papers.md."""
    page = (FOLDER.parents[2] / "docs" / "papers.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*?) \| `(vision/\w+)` \|(.*)\|$", page, re.M)
    seen = {}
    for row, name, text in rows:
        recipe = Recipe.from_toml(FOLDER.parent / f"{name}.toml")
        changes = re.findall(r"`(.+?)`", text)
        changed = recipe.override(changes)
        plan.check(changed)
        keys = {change.partition("=")[0] for change in changes}
        old, new = recipe.flat(), changed.flat()
        assert {key for key in new if old[key] != new[key]} == keys, row
        seen[row] = new
    sizes = {
        flat["block_size"]
        for row, flat in seen.items()
        if "block_size" in row and flat["keep_prob"] == 0.9
    }
    assert sizes == {1, 3, 5, 7} and len(seen) == 10
    # All other rows of the table train without DropBlock on the backbone.
    assert sum(flat["keep_prob"] < 1 for flat in seen.values()) == 5
    tuned = [flat for flat in seen.values() if flat["initial_weights"]]
    assert [flat["epochs"] for flat in tuned] == [12, 45]
