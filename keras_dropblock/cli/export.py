"""keras-dropblock-export: export the model of a run or a published model.

Formats: `saved_model`, in the layout of TensorFlow Serving; `onnx`; `litert`;
`litert_int8`. An export is kept only if its outputs equal the model's. For
`litert_int8`, the main metric on test images is compared and printed.
"""

from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli import trained
from keras_dropblock.cli.out import OUT

_FORMAT = flags.DEFINE_enum(
    "format",
    "saved_model",
    ["saved_model", "onnx", "litert", "litert_int8"],
    "Format to write. onnx needs the extra `onnx`, litert and litert_int8 "
    "need the extra `litert`.",
)
_MONTE_CARLO_SAMPLES = flags.DEFINE_integer(
    "monte_carlo_samples",
    0,
    "For saved_model: forward passes of an endpoint that returns mean and "
    "variance with DropBlock and dropout active. 0: no such endpoint.",
    lower_bound=0,
)
_CALIBRATION_IMAGES = flags.DEFINE_integer(
    "calibration_images",
    200,
    "For litert_int8: number of training images that set the ranges of the "
    "activations.",
    lower_bound=1,
)
_TEST_IMAGES = flags.DEFINE_integer(
    "test_images",
    2000,
    "For litert_int8: number of test images to measure the metric on, evenly "
    "spaced. All images if there are fewer.",
    lower_bound=1,
)
_MAX_METRIC_DROP = flags.DEFINE_float(
    "max_metric_drop",
    0.02,
    "For litert_int8: largest allowed drop of the main metric, on the "
    "metric's own scale, such as 0.02 of a fraction. A worse file is not "
    "kept.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def export():
    if OUT.value is None:
        raise app.UsageError("--out must be given: the folder to write.")
    from keras_dropblock import exports
    from keras_dropblock.training import evaluation

    # Few runtimes compute in 16 bits, so export float32.
    model, recipe = trained.load("float32")
    shared = {"format": _FORMAT.value, "recipe": recipe.to_toml()}
    if _FORMAT.value == "saved_model":
        shared["monte_carlo_samples"] = _MONTE_CARLO_SAMPLES.value
    if _FORMAT.value != "litert_int8":
        print(f"Exported: {exports.export(model, OUT.value, **shared)}")
        return
    exports.litert.check_task(recipe.task)  # before images are read
    examples = evaluation.Examples(recipe)
    result = exports.export(
        model,
        OUT.value,
        examples.drawn(_CALIBRATION_IMAGES.value),
        examples.test(_TEST_IMAGES.value),
        max_metric_drop=_MAX_METRIC_DROP.value,
        **shared,
    )
    metric = recipe.task.metrics[0]
    print(
        f"Exported: {result.path}\n{metric.heading} of {result.images:,} test "
        f"images: {metric.text(result.score)} in int8, "
        f"{metric.text(result.float_score)} in float32"
    )


def main():
    cli.run(export)


if __name__ == "__main__":
    cli.refuse(__spec__)
