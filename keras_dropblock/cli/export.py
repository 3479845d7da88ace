"""keras-dropblock-export: turn a run into a SavedModel for serving."""

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli.workdir import WORKDIR

_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder of the model, such as saved_models/NAME; versions go below it.",
    required=True,
)


def export():
    from keras_dropblock import data, exporting, fitting

    model, recipe, _ = fitting.load_run(WORKDIR.value)
    path = exporting.export(
        model,
        _OUT.value,
        data.Normalise(recipe.mean, recipe.std),
        recipe.central_part,
    )
    print(f"SavedModel: {path}")


def main():
    cli.run(export)
