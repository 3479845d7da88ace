"""keras-dropblock-train: train by a recipe, or go on with a run."""

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.workdir import WORKDIR

_RECIPE = flags.DEFINE_string(
    "recipe", None, "Recipe file (TOML). Without one, the defaults."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "key=value that overrides the recipe; may be repeated."
)


def train():
    from keras_dropblock import fitting
    from keras_dropblock.recipes import Recipe

    recipe = Recipe.from_toml(_RECIPE.value) if _RECIPE.value else Recipe()
    fitting.fit(recipe.override(_SET.value), WORKDIR.value)


def main():
    cli.run(train)
