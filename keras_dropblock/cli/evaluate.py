"""keras-dropblock-evaluate: score a run on its test or training images."""

import json

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.workdir import WORKDIR

_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "train"], "Which images to score."
)


def evaluate():
    from keras_dropblock import fitting

    print(json.dumps(fitting.evaluate(WORKDIR.value, _SPLIT.value), indent=2))


def main():
    cli.run(evaluate)
