"""keras-dropblock-evaluate: evaluate a run or a published model.

The model is evaluated on one split of its data set: test, train (without
augmentation) or, if the recipe has a validation split, validation.
"""

import json

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli import trained
from keras_dropblock.cli.workdir import WORKDIR

_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "train", "validation"], "Split to evaluate."
)
_DRAW = flags.DEFINE_bool(
    "draw",
    False,
    "Also draw the pictures of the task for the test split, such as the "
    "confusion matrix, into --workdir. Reports show them.",
)


def evaluate():
    from keras_dropblock.errors import WorkdirError
    from keras_dropblock.training import evaluation

    if _DRAW.value and WORKDIR.value is None:
        raise WorkdirError("--draw needs --workdir, where it draws.")
    model, recipe = trained.load()
    scores = evaluation.evaluate_model(model, recipe, _SPLIT.value)
    if _DRAW.value:
        evaluation.draw(model, recipe, WORKDIR.value)
    print(json.dumps(scores, indent=2))


def main():
    cli.run(evaluate)


if __name__ == "__main__":
    cli.refuse(__spec__)
