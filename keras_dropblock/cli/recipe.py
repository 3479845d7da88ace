"""The flags of every command that starts from a recipe."""

from absl import flags

_RECIPE = flags.DEFINE_string(
    "recipe", None, "Recipe file (TOML). Without one, the defaults."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "key=value that overrides the recipe; may be repeated."
)


def recipe():
    """The recipe that the flags stand for."""
    from keras_dropblock.recipes import Recipe

    start = Recipe.from_toml(_RECIPE.value) if _RECIPE.value else Recipe()
    return start.override(_SET.value)
