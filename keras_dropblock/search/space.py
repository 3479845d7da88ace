"""Search spaces: the keys of a recipe that vary, and their values."""

import itertools
import json

from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import key_and_value, shown
from keras_dropblock.search import dimensions
from keras_dropblock.search.dimensions import Choice
from keras_dropblock.training import plan

_MOST_COMBINATIONS = 2000  # to check before the first trial


def parse(assignments):
    """Parse strings such as `keep_prob=float(0.75, 1.0)` into a dict.

    The values are the texts or lists that `checked` takes.
    """
    space = {}
    for text in assignments:
        key, value = key_and_value(text, "--space")
        if key in space:
            raise RecipeError(
                f"--space: `{key}` is given twice. Put its values in one list."
            )
        space[key] = value
    return space


def checked(recipe, space):
    """Check a search space and convert its values to those of a recipe.

    Args:
        recipe: `Recipe` that the values go into.
        space: dict from keys of a recipe to `Choice`, `Range`, a list of
            values, or a text in one of `dimensions.FORMS`.

    Returns:
        A dict from key to `Choice` or `Range`.

    Raises:
        RecipeError: if a key cannot vary, or a value is invalid or repeated,
            or there is no validation split.
    """
    for key in {*space} & {*_FIXED}:
        raise RecipeError(f"--space: `{key}` cannot vary: {_FIXED[key]}")
    result = {}
    for key, given in space.items():
        dimension = dimensions.dimension(key, given)
        found = [
            recipe.replaced({key: value}, "--space").flat()[key]
            for value in dimension.examples()
        ]
        if isinstance(dimension, Choice):
            if len({*found}) < len(found):
                raise RecipeError(
                    f"--space: `{key}` must have distinct values. Received: "
                    f"{key}={shown(given)}."
                )
            dimension = Choice(tuple(found))
        result[key] = dimension
    _check_combinations(recipe, result)
    return result


_FIXED = {
    "task": (
        "different tasks have no common metric to compare. Run one search for "
        "each task."
    ),
    "seed": (
        "each point is averaged over seeds. Set their number with --seeds, "
        "and the first one with --set seed=..."
    ),
}


def _check_combinations(recipe, space):
    """Raise for a value that no combination of the other keys allows."""
    combinations = list(
        itertools.islice(
            itertools.product(*(d.examples() for d in space.values())),
            _MOST_COMBINATIONS,
        )
    )
    errors, allowed = {}, set()
    for values in combinations:
        pairs = list(zip(space, values, strict=True))
        try:
            candidate = recipe.replaced(dict(pairs), "--space")
            plan.check(plan.settled(candidate))
        except RecipeError as error:
            for pair in pairs:
                errors.setdefault(pair, error)
        else:
            _require_validation(candidate)
            allowed |= {*pairs}
    if not allowed and errors:
        raise next(iter(errors.values()))
    for (key, value), error in errors.items():
        if (key, value) not in allowed:
            raise RecipeError(
                f"--space: `{key}` = {as_text(value)} is not possible: {error}"
            ) from error


def _require_validation(recipe):
    if not plan.has_validation(recipe):
        raise RecipeError(
            "`validation_split` must be set to compare recipes: choosing by "
            "the test set overfits it. Use, for example, --set "
            "validation_split=0.1"
        )


def points(grid):
    """All combinations of a grid's values. The last key varies fastest.

    Args:
        grid: dict from key to values.
    """
    return list(itertools.product(*grid.values()))


def as_text(value):
    """A value as written in TOML, but strings without quotes."""
    return value if isinstance(value, str) else json.dumps(value)
