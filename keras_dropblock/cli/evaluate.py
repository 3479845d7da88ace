"""keras-dropblock-evaluate: evaluate a run or a published model.

The model is evaluated on one split of its data set: test, train (without
augmentation) or, if the recipe has a validation split, validation.
"""

import json

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli import trained

_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "train", "validation"], "Split to evaluate."
)


def evaluate():
    from keras_dropblock.training import evaluation

    model, recipe = trained.load()
    scores = evaluation.evaluate_model(model, recipe, _SPLIT.value)
    print(json.dumps(scores, indent=2))


def main():
    cli.run(evaluate)


if __name__ == "__main__":
    cli.refuse(__spec__)
