"""Export to LiteRT (formerly TensorFlow Lite), in float32 and in int8."""

import os
import pathlib
import tempfile
import typing
import warnings

import numpy as np

from keras_dropblock import files
from keras_dropblock.errors import DifferenceError, ExportError
from keras_dropblock.exports.served import Served, check_same

_BATCH = 100  # images per batch when the int8 file is evaluated


def export_litert(model, out, *, card=None, recipe=None):
    """Write a model as `out/model.tflite`, with its labels and card.

    The only signature, `serve_uint8`, maps uint8 `images` (batch, height,
    width, channels) to `probabilities`. Normalization and softmax are
    included. The file is run with LiteRT first; if its probabilities differ
    from the model's by more than 1e-5, it is not kept.

    Arguments, return value and errors are those of `export_onnx`. The extra
    to install is `litert`.
    """
    served = _served(model, card)
    _interpreter_class()
    import tensorflow as tf

    def serve(images):
        return served.answering(tf.cast(images, tf.float32), training=False)

    content = _convert(served, serve, tf.uint8)
    images = served.random_images()
    given = _runner(content)(images=images)["probabilities"]
    check_same("LiteRT file", given, served.answers(images))
    return _write(content, out, "model.tflite", served, recipe)


def check_task(task):
    """Raise `ExportError` for a `tasks.Task` whose answer is not one array."""
    if task.any_size:
        raise ExportError(
            f"`format` must be saved_model or onnx for the task "
            f"{task.name()}. LiteRT files are for classification."
        )


def _served(model, card):
    """The served model of a task whose answer is one array."""
    served = Served.of(model, card)
    check_task(served.task)
    return served


class Quantized(typing.NamedTuple):
    """The result of `export_litert_int8`.

    Attributes:
        path: path of the int8 file.
        images: number of test images.
        score: the task's first metric, measured on the int8 file.
        float_score: the same metric, measured on the model.
    """

    path: pathlib.Path
    images: int
    score: float
    float_score: float


def export_litert_int8(
    model,
    out,
    calibration,
    test,
    *,
    card=None,
    recipe=None,
    max_metric_drop=0.02,
):
    """Quantize a model to int8 and write it as `out/model_int8.tflite`.

    Weights and activations have 8 bits. The signature is that of
    `export_litert`: `images` are uint8 pixels, and `probabilities` are uint8
    too, to be divided by 256. If the task's main metric is worse than the
    model's by more than `max_metric_drop`, the file is not kept.

    Args:
        model, out, card, recipe: see `export_onnx`.
        calibration: uint8 training images that set the ranges of the
            activations. 200 images are enough.
        test: tuple (uint8 images, labels) to measure the metric on.
        max_metric_drop: on the metric's scale; accuracy is in [0, 1].

    Returns:
        `Quantized`.

    Raises:
        ExportError: as `export_onnx`, and if there are no images, or not one
            label for each test image.
        DifferenceError: if the metric drops by more than `max_metric_drop`.
    """
    served = _served(model, card)
    _interpreter_class()
    _check_images(calibration, *test)
    import tensorflow as tf

    def of_pixels(images):
        # Fix the input range to 0 to 255 for any calibration images. The
        # input scale is then 1, so the file accepts unscaled pixels.
        pixels = tf.quantization.fake_quant_with_min_max_args(images, 0, 255)
        return served.answering(pixels, training=False)

    content = _convert(served, of_pixels, tf.float32, calibration)
    score, float_score = _scores(served, content, *test)
    metric = served.task.metrics[0]
    drop = float_score - score
    if not metric.higher_is_better:
        drop = -drop
    if drop > max_metric_drop:
        raise DifferenceError(
            f"The {metric.heading} on {len(test[0])} test images is "
            f"{metric.text(score)} in int8 and {metric.text(float_score)} in "
            "float32: it drops by more than `max_metric_drop` = "
            f"{metric.text(max_metric_drop)}. The file was not kept. Calibrate "
            "with more images, or use the format litert."
        )
    path = _write(content, out, "model_int8.tflite", served, recipe)
    return Quantized(path, len(test[0]), score, float_score)


def _check_images(calibration, images, labels):
    if not len(calibration) or not len(images) or len(images) != len(labels):
        raise ExportError(
            "`calibration` and `test` must have at least one image, and "
            "`test` must have one label for each image. Received: "
            f"{len(calibration)} calibration images, {len(images)} test "
            f"images, {len(labels)} labels."
        )


def _convert(served, serve, dtype, calibration=None):
    """The content of a LiteRT file, in int8 if calibration images are given."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, *served.image_shape), dtype, "images")
    module = tf.Module()
    module.weights = [variable.value for variable in served.model.variables]
    module.serve_uint8 = tf.function(
        lambda images: {"probabilities": serve(images)},
        input_signature=[spec],
        autograph=False,
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The converter itself uses the deprecated interpreter.
        warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is dep")
        tf.saved_model.save(
            module, folder, signatures={"serve_uint8": module.serve_uint8}
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serve_uint8"]
        )
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                {"images": image[None].astype("float32")}
                for image in calibration
            )
            whole = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            converter.target_spec.supported_ops = [whole]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.uint8
        return converter.convert()


def _scores(served, content, images, labels):
    """The main metric of the int8 file and of the model on the test images."""
    runner = _runner(content)
    details = runner.get_output_details()["probabilities"]
    scale, zero_point = details["quantization"]
    answers = [], []
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH]
        given = runner(images=batch)["probabilities"].astype("float32")
        answers[0].append((given - zero_point) * scale)
        answers[1].append(served.answers(batch))
    name = served.task.metrics[0].name
    return [
        served.task.answer_scores(np.concatenate(given), labels)[name]
        for given in answers
    ]


def _runner(content):
    interpreter = _interpreter_class()(
        model_content=content, num_threads=os.cpu_count()
    )
    runner = interpreter.get_signature_runner("serve_uint8")
    details = runner.get_input_details()["images"]
    if details["quantization"] not in ((0.0, 0), (1.0, 0)):
        raise DifferenceError(
            "The LiteRT file must take unscaled pixels. Its input has (scale, "
            f"zero point) {details['quantization']}. It was not kept."
        )
    return runner


def _interpreter_class():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ExportError(
            "Export to LiteRT needs the extra `litert`. Run: pip install "
            f"'keras-dropblock[litert]'. ({error})"
        ) from error
    return Interpreter


def _write(content, out, name, served, recipe):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with files.replacing(out / name) as temporary:
        temporary.write_bytes(content)
    served.write_assets(out, recipe)
    return out / name
