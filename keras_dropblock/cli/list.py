"""keras-dropblock-list: list the papers' networks with sizes and recipes."""

import pathlib

from absl import flags

from keras_dropblock import cli

_RECIPES = flags.DEFINE_string(
    "recipes", None, "Folder of recipes to list for each network."
)


def list_networks():
    print(table(_RECIPES.value), end="")


def table(folder=None):
    """A Markdown table of the networks, with the recipes of a folder."""
    from keras_dropblock.analysis import networks
    from keras_dropblock.training.recipe import Recipe

    recipes = None
    if folder is not None:
        recipes = {}
        for path in sorted(pathlib.Path(folder).glob("*.toml")):
            model = Recipe.from_toml(path).model
            recipes.setdefault(model, []).append(path.stem)
    return networks.table(recipes)


def main():
    cli.run(list_networks)


if __name__ == "__main__":
    cli.refuse(__spec__)
