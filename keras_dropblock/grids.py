"""Grids: every combination of some values of some keys of a recipe."""

import dataclasses
import itertools
import json
import pathlib
import re

from keras_dropblock.recipe_text import RecipeError, key_and_value, shown
from keras_dropblock.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Run:
    """One recipe of a sweep, and the folder that is its work directory."""

    point: tuple  # its values of the grid's keys
    recipe: Recipe
    workdir: pathlib.Path


def parse(assignments):
    """Read texts `key=[value, ...]`, the list as in TOML, into a dict."""
    grid = {}
    for text in assignments:
        key, values = key_and_value(text, "--grid")
        if key in grid:
            raise RecipeError(
                f"--grid: `{key}` is given twice. Put its values in one list."
            )
        grid[key] = values
    return grid


def checked(recipe, grid):
    """The grid with its values as a recipe has them: tuples, floats."""
    if "seed" in grid:
        raise RecipeError(
            "--grid: `seed` is not for a grid, whose means are over seeds. Use "
            "--seeds, the number of them, and --set seed=..., the first."
        )
    result = {}
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise RecipeError(
                f"--grid: `{key}` must have a list of values, as in "
                f"'{key}=[..., ...]', with texts in quotes. Received: "
                f"{key}={shown(values)}."
            )
        result[key] = tuple(
            getattr(recipe.replaced({key: value}, "--grid"), key)
            for value in values
        )
        if len({*result[key]}) < len(values):
            raise RecipeError(
                f"--grid: `{key}` must have distinct values. Received: "
                f"{key}={shown(values)}."
            )
    return result


def runs(recipe, grid, workdir, seeds):
    """Every run; those of the first seed come first."""
    if seeds < 1:
        raise RecipeError(f"`seeds` must be >= 1. Received: seeds={seeds}.")
    runs = {}
    for seed in range(recipe.seed, recipe.seed + seeds):
        for point in points(grid):
            values = dict(zip(grid, point, strict=True), seed=seed)
            one = Run(
                point,
                recipe.replaced(values, "--seeds"),
                workdir / _name(values),
            )
            other = runs.setdefault(one.workdir, one)
            if other is not one:
                raise RecipeError(
                    f"--grid: {shown(point)} and {shown(other.point)} would "
                    f"share the folder {one.workdir.name}. Sweep them apart."
                )
    return [*runs.values()]


def points(grid):
    """Every combination of the values of a grid, the last key fastest."""
    return list(itertools.product(*grid.values()))


def as_text(value):
    """A value of a recipe or a table as in TOML, but a text unquoted."""
    return value if isinstance(value, str) else json.dumps(value)


def _name(values):
    """Name of a run's folder, the same in whichever order the keys come."""
    order = [field.name for field in dataclasses.fields(Recipe)]
    keys = sorted({*values} - {"seed"}, key=order.index)
    parts = []
    for key in (*keys, "seed"):
        text = re.sub(r"[^\w.+-]+", "-", as_text(values[key]))
        parts.append(f"{key}={text.strip('-') or 'none'}")
    return ",".join(parts)
