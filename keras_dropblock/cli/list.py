"""keras-dropblock-list: the papers' networks, their size and recipes."""

from absl import flags

from keras_dropblock import cli

_RECIPES = flags.DEFINE_string(
    "recipes", None, "Folder of recipes, for a column that names them."
)
_INTO = flags.DEFINE_string(
    "into",
    None,
    "Markdown file whose part between <!-- networks --> and "
    "<!-- /networks --> becomes the table. Else it is printed.",
)


def list_networks():
    from keras_dropblock import files
    from keras_dropblock.analysis import networks

    table = networks.table(_RECIPES.value)
    if _INTO.value is None:
        print(table, end="")
    else:
        files.write_between(_INTO.value, "networks", table)


def main():
    cli.run(list_networks)
