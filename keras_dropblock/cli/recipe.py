"""The flags shared by the commands that start from a recipe."""

from absl import flags

_RECIPE = flags.DEFINE_string(
    "recipe", None, "Recipe file (TOML). Default: the default recipe."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "key=value that overrides the recipe. Can be repeated."
)


def recipe():
    """The recipe that the flags describe."""
    start, _ = recipe_and_table(None)
    return start


def recipe_and_table(table):
    """The recipe that the flags describe, and a table of its file.

    Args:
        table: name of a table that the file may have in addition to the keys
            of a recipe.

    Returns:
        (`Recipe`, the table as a dict, empty if there is none).
    """
    from keras_dropblock.training.recipe import Recipe

    start, found = Recipe(), {}
    if _RECIPE.value:
        start, found = Recipe.from_toml_with(_RECIPE.value, table)
    return start.override(_SET.value), found
