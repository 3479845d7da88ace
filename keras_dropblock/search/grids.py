"""Grids: all combinations of some values of some keys of a recipe."""

import dataclasses
import itertools
import json
import pathlib
import re

from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import key_and_value, shown
from keras_dropblock.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One recipe of a sweep and its work directory."""

    point: tuple  # values of the grid's keys
    recipe: Recipe
    workdir: pathlib.Path


def parse(assignments):
    """Parse strings `key=[value, ...]`, with TOML lists, into a dict."""
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
    """Check a grid and convert its values to the types of a recipe's keys.

    Args:
        recipe: `Recipe` that the values go into.
        grid: dict from keys of a recipe to lists of values.

    Raises:
        RecipeError: if a key cannot vary, or a value is invalid or repeated.
    """
    if "task" in grid:
        raise RecipeError(
            "--grid: `task` cannot vary: different tasks have no common "
            "metric to compare. Run one sweep for each task."
        )
    if "seed" in grid:
        raise RecipeError(
            "--grid: `seed` cannot be in a grid, since each point is averaged "
            "over seeds. Set their number with --seeds, and the first one "
            "with --set seed=..."
        )
    result = {}
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise RecipeError(
                f"--grid: `{key}` must have a list of values, as in "
                f"'{key}=[..., ...]', with strings in quotes. Received: "
                f"{key}={shown(values)}."
            )
        result[key] = tuple(
            recipe.replaced({key: value}, "--grid").flat()[key]
            for value in values
        )
        if len({*result[key]}) < len(values):
            raise RecipeError(
                f"--grid: `{key}` must have distinct values. Received: "
                f"{key}={shown(values)}."
            )
    return result


def runs(recipe, grid, workdir, seeds):
    """All runs of a sweep, ordered by seed.

    Args:
        recipe: `Recipe`. Its seed is the first.
        grid: dict as returned by `checked`.
        workdir: `pathlib.Path` of the sweep.
        seeds: number of seeds for each point, int >= 1.

    Returns:
        A list of `PlannedRun`.
    """
    if seeds < 1:
        raise RecipeError(f"`seeds` must be >= 1. Received: seeds={seeds}.")
    runs = {}
    for seed in range(recipe.seed, recipe.seed + seeds):
        for point in points(grid):
            values = dict(zip(grid, point, strict=True), seed=seed)
            one = PlannedRun(
                point,
                recipe.replaced(values, "--seeds"),
                workdir / _name(recipe, values),
            )
            other = runs.setdefault(one.workdir, one)
            if other is not one:
                raise RecipeError(
                    f"--grid: {shown(point)} and {shown(other.point)} would "
                    f"share the folder {one.workdir.name}. Put them into "
                    "separate sweeps."
                )
    return [*runs.values()]


def points(grid):
    """All combinations of a grid's values. The last key varies fastest."""
    return list(itertools.product(*grid.values()))


def as_text(value):
    """A value as written in TOML, but strings without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _name(recipe, values):
    """Name of a run's folder. It does not depend on the order of the keys."""
    order = list(recipe.flat())
    keys = sorted({*values} - {"seed"}, key=order.index)
    parts = []
    for key in (*keys, "seed"):
        text = re.sub(r"[^\w.+-]+", "-", as_text(values[key]))
        parts.append(f"{key}={text.strip('-') or 'none'}")
    return ",".join(parts)
