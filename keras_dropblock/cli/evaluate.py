"""keras-dropblock-evaluate: score a run, or a published model.

It is scored on the test or training images of its recipe's data set.
"""

import json

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli import trained

_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "train"], "Which images to score."
)


def evaluate():
    from keras_dropblock import fitting

    model, recipe, _ = trained.load()
    scores = fitting.evaluate_model(model, recipe, _SPLIT.value)
    print(json.dumps(scores, indent=2))


def main():
    cli.run(evaluate)
