"""keras-dropblock-export: a network of a run, or a published one, to a file.

Formats, each compared with the network before it is kept: `saved_model`, in
the layout of TensorFlow Serving; `onnx`; `litert`; `litert_int8`, whose
accuracy on test images is printed beside the network's own.
"""

from absl import flags

from keras_dropblock import cli
from keras_dropblock.cli import trained

_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder of the model, such as saved_models/NAME. SavedModels go into "
    "versions below it, other formats into files.",
    required=True,
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "saved_model",
    ["saved_model", "onnx", "litert", "litert_int8"],
    "What to write. onnx and litert need the extra of that name.",
)
_MONTE_CARLO_SAMPLES = flags.DEFINE_integer(
    "monte_carlo_samples",
    0,
    "For saved_model: passes of an endpoint that gives mean and variance with "
    "DropBlock and dropout on; 0: no such endpoint.",
    lower_bound=0,
)
_CALIBRATION_IMAGES = flags.DEFINE_integer(
    "calibration_images",
    200,
    "For litert_int8: training images that set the ranges of activations.",
    lower_bound=1,
)
_TEST_IMAGES = flags.DEFINE_integer(
    "test_images",
    2000,
    "For litert_int8: test images to measure accuracy on, evenly spaced; all, "
    "if there are fewer.",
    lower_bound=1,
)
_MOST_LOST = flags.DEFINE_float(
    "most_lost",
    0.02,
    "For litert_int8: fraction of the test images it may lose to be kept.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def export():
    from keras_dropblock import data, exporting, fitting

    model, recipe, labels = trained.load(
        "float32"
    )  # elsewhere few compute in 16 bits
    normalise = data.Normalise(recipe.mean, recipe.std)
    arguments = (model, _OUT.value, normalise)
    shared = {"labels": labels, "recipe": recipe}
    match _FORMAT.value:
        case "saved_model":
            path = exporting.export(
                *arguments,
                recipe.central_part,
                monte_carlo_samples=_MONTE_CARLO_SAMPLES.value,
                **shared,
            )
            print(f"SavedModel: {path}")
        case "onnx":
            print(f"ONNX: {exporting.export_onnx(*arguments, **shared)}")
        case "litert":
            print(f"LiteRT: {exporting.export_litert(*arguments, **shared)}")
        case "litert_int8":
            examples = fitting.Examples(recipe)
            result = exporting.export_litert_int8(
                *arguments,
                examples.drawn(_CALIBRATION_IMAGES.value),
                examples.test(_TEST_IMAGES.value),
                most_lost=_MOST_LOST.value,
                **shared,
            )
            print(
                f"LiteRT, 8 bits: {result.path}\n"
                f"accuracy {result.accuracy:.2%} of {result.images:,} test "
                f"images, {result.float_accuracy:.2%} in float; the same class "
                f"for {result.agreement:.2%}"
            )


def main():
    cli.run(export)
