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
