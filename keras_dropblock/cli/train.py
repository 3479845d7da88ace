"""keras-dropblock-train: train by a recipe, or go on with a run."""

from keras_dropblock import cli
from keras_dropblock.cli.recipe import recipe
from keras_dropblock.cli.workdir import WORKDIR


def train():
    from keras_dropblock import fitting

    fitting.fit(recipe(), WORKDIR.value)


def main():
    cli.run(train)
