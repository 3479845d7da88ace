"""LiteRT (formerly TensorFlow Lite) files, in float and in 8 bits."""

import os
import pathlib
import tempfile
import typing
import warnings

import numpy as np

from keras_dropblock import files
from keras_dropblock.exporting import endpoints
from keras_dropblock.exporting.comparing import (
    check_same,
    probabilities,
    random_images,
)
from keras_dropblock.exporting.errors import DifferenceError, ExportError
from keras_dropblock.exporting.saved_model import write_assets

_BATCH = 100  # images, when accuracy is measured


def export_litert(model, out, normalise, *, labels=None, recipe=None):
    """Write a model as `out/model.tflite`, and labels and recipe beside it.

    Its only signature, `serve_uint8`, takes uint8 `images` (batch, height,
    width, channels) and gives `probabilities`: normalisation and softmax are
    inside. The file is run by LiteRT and compared with the model before it
    takes its place: what differs by more than 1e-5 is not kept.

    Args, returns and errors are those of `export_onnx`; the extra is `litert`.
    """
    endpoints.check_exportable(model, labels)
    _interpreter_class()
    import tensorflow as tf

    content = _convert(model, endpoints.serve_uint8(model, normalise), tf.uint8)
    images = random_images(model)
    given = _runner(content)(images=images)["probabilities"]
    check_same("LiteRT file", given, probabilities(model, normalise, images))
    return _write(content, out, "model.tflite", labels, recipe)


class Quantised(typing.NamedTuple):
    """What became of a model in 8 bits, measured on `images` test images."""

    path: pathlib.Path
    images: int
    accuracy: float  # of the 8-bit file
    float_accuracy: float  # of the model
    agreement: float  # share of images that both give the same class


def export_litert_int8(
    model,
    out,
    normalise,
    calibration,
    test,
    *,
    labels=None,
    recipe=None,
    most_lost=0.02,
):
    """Write a model as `out/model_int8.tflite`, in whole numbers of 8 bits.

    Weights, activations, input and output are of 8 bits. The signature is
    that of `export_litert`; `images` are plain pixels, and `probabilities`
    uint8, to be divided by 256. A file that loses more accuracy than
    `most_lost` on the test images is not kept.

    Args:
        calibration: uint8 training images, which set the ranges of the
            activations; 200 are many.
        test: (uint8 images, their labels), to measure accuracy on.
        most_lost: fraction of the test images, in [0, 1].
        Others as of `export_onnx`.

    Returns:
        `Quantised`: path, and the accuracies.

    Raises:
        ExportError: as `export_onnx`, and without images or labels for each.
        DifferenceError: if it loses more than `most_lost`.
    """
    endpoints.check_exportable(model, labels)
    _interpreter_class()
    _check_images(calibration, *test)
    import tensorflow as tf

    serve = endpoints.serve_uint8(model, normalise)

    def of_pixels(images):
        # All 256 levels, whatever the calibration shows: then the input's
        # scale is 1, and pixels go in as they are.
        return serve(
            tf.quantization.fake_quant_with_min_max_args(images, 0, 255)
        )

    content = _convert(model, of_pixels, tf.float32, calibration)
    result = _compare(model, normalise, content, *test)
    lost = result["float_accuracy"] - result["accuracy"]
    if lost > most_lost:
        raise DifferenceError(
            f"In 8 bits the model loses {lost:.2%} of {result['images']} test "
            f"images ({result['float_accuracy']:.2%} before); more than "
            f"{most_lost:.2%}. It was not kept. Calibrate with more images, "
            "or keep the float file."
        )
    path = _write(content, out, "model_int8.tflite", labels, recipe)
    return Quantised(path, **result)


def _check_images(calibration, images, labels):
    if not len(calibration) or not len(images) or len(images) != len(labels):
        raise ExportError(
            "`calibration` and `test` must hold one image at least, and "
            f"`test` a label for each. Received: {len(calibration)} to "
            f"calibrate, {len(images)} and {len(labels)} to test."
        )


def _convert(model, serve, dtype, calibration=None):
    """The content of a LiteRT file; with calibration images in 8 bits."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), dtype, "images")
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve_uint8 = tf.function(
        lambda images: {"probabilities": serve(images)},
        input_signature=[spec],
        autograph=False,
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Of an interpreter that the converter uses within itself.
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


def _compare(model, normalise, content, images, labels):
    """Accuracy of the 8-bit file and of the model, on the same images."""
    runner = _runner(content)
    classes = [], []
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH]
        given = runner(images=batch)["probabilities"]
        expected = probabilities(model, normalise, batch)
        for found, rows in zip(classes, (given, expected), strict=True):
            found.append(rows.argmax(-1))
    given, expected = map(np.concatenate, classes)
    return {
        "images": len(images),
        "accuracy": float((given == labels).mean()),
        "float_accuracy": float((expected == labels).mean()),
        "agreement": float((given == expected).mean()),
    }


def _runner(content):
    interpreter = _interpreter_class()(
        model_content=content, num_threads=os.cpu_count()
    )
    runner = interpreter.get_signature_runner("serve_uint8")
    details = runner.get_input_details()["images"]
    if details["quantization"] not in ((0.0, 0), (1.0, 0)):
        raise DifferenceError(
            "The LiteRT file takes no plain pixels: their scale and zero are "
            f"{details['quantization']}. It was not kept."
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


def _write(content, out, name, labels, recipe):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with files.replacing(out / name) as temporary:
        temporary.write_bytes(content)
    write_assets(out, labels, recipe)
    return out / name
