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
    from keras_dropblock.training.recipe import Recipe

    start = Recipe.from_toml(_RECIPE.value) if _RECIPE.value else Recipe()
    return start.override(_SET.value)
