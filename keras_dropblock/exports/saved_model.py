"""Export to SavedModels that run without this package."""

import os
import pathlib
import shutil

import keras
import numpy as np

from keras_dropblock import tasks
from keras_dropblock.data.headers import EMPTY, OK
from keras_dropblock.errors import DifferenceError, ExportError
from keras_dropblock.exports import any_size
from keras_dropblock.exports.image_files import decode_each
from keras_dropblock.exports.served import Served, check_same
from keras_dropblock.layers import dropping_as_trained


def export_saved_model(
    model, out, *, card=None, recipe=None, monte_carlo_samples=0
):
    """Write a model as a SavedModel in TensorFlow Serving's layout.

    The SavedModel has the endpoints below. Each is also a signature and takes
    a batch. Their result is the task's answer: probabilities for
    classification.

    - `serve`: maps raw float32 pixels of 0 to 255 (batch, height, width,
      channels) to answers. It is the default signature, and what a call of
      the loaded object runs.
    - `serve_uint8`: maps raw uint8 pixels to answers.
    - `serve_normalized`: maps normalized float32 images to answers.
    - `serve_bytes`: takes strings, each the content of a JPEG or PNG file of
      any size. The images are cropped and resized by the card's
      preprocessing. Returns a dict of `probabilities` and `status`. The
      status is `ok`, or says what is wrong with the file (see
      `data.headers.status`); the probabilities are then all 0.
    - `features`: maps uint8 images to the input of the last layer, after
      pooling. Only for a model whose last layer is Dense.
    - `monte_carlo`: maps uint8 images to a dict of the `mean` and `variance`
      (divided by n, not n - 1) of the answers over random passes with
      DropBlock and dropout active. Each call draws new masks. DropBlock
      rescales by the whole batch, so the result for one image depends
      slightly on the others. Only if `monte_carlo_samples` is set.

    For detection and segmentation, `serve`, `serve_uint8` and `serve_bytes`
    take whole images of any size and answer in the image's own pixels:

    - detection: a dict of `boxes` (batch, 100, 4) as y and x of the corners,
      `scores` and `labels` (batch, 100), filled up with 0, 0 and -1, and
      `num_detections` (batch,).
    - segmentation: `mask` (batch, height, width), the class of each pixel as
      uint8; from `serve_bytes`, `mask_bytes` (batch,), a PNG file with the
      mask of each image.

    `serve_normalized` then gives a dict of the raw outputs of the network:
    `logits` of pixels, or `bbox_regression` and `cls_logits` of anchors.
    There are no `features` and no `monte_carlo`.

    Trainable variables stay trainable, so a loaded SavedModel can be
    fine-tuned.

    The endpoints are compared with the model. If a probability differs by
    more than 1e-5, the SavedModel is not kept. Raw outputs above 1 may differ
    by 1e-5 of the largest one, masks in 0.1 % of the pixels, and 2 % of the
    boxes by more than 0.5 pixels or 1e-3 in score. `monte_carlo` is random,
    so only the sum of its means, 1, is checked.

    Args:
        model: a model that takes normalized images of a known size.
        out: folder of the model, such as `saved_models/NAME`. The SavedModel
            is written to the next free version below it: 1, 2, ...
        card: `hub.Card`. None: that of the model.
        recipe: text of the recipe, written to `assets/recipe.toml`, or None.
        monte_carlo_samples: forward passes of `monte_carlo`, >= 2; 0 for no
            such endpoint.

    Returns:
        Path of the SavedModel, `out/<version>`.

    Raises:
        ExportError: if the backend is not TensorFlow, the model has no card,
            its image size is unknown, its images do not have 1, 3 or 4
            channels, or `monte_carlo_samples` is set but the model has
            nothing to drop.
        DifferenceError: if the outputs of the SavedModel differ from the
            model's.
    """
    served = Served.of(model, card)
    kind = any_size if served.task.any_size else _FIXED
    endpoints = kind.endpoints(served, monte_carlo_samples)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{os.getpid()}"
    try:
        _write(served, endpoints, temporary)
        kind.compare(served, temporary)
        served.write_assets(temporary / "assets", recipe)
        path = out / str(_next_version(out))
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _next_version(out):
    versions = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
    return max(versions, default=0) + 1


def _endpoints(served, monte_carlo_samples):
    """A dict from name to (function, specification of its input)."""
    import tensorflow as tf

    shape = (None, *served.image_shape)
    floats = tf.TensorSpec(shape, tf.float32, name="images")
    pixels = tf.TensorSpec(shape, tf.uint8, name="images")
    files = tf.TensorSpec((None,), tf.string, name="images")
    normalized = served.task.serving_model(served.model, None)
    endpoints = {
        "serve": (_of(served.answering), floats),
        "serve_uint8": (_of(served.answering), pixels),
        "serve_normalized": (_of(normalized), floats),
        "serve_bytes": (_of_files(served), files),
    }
    if isinstance(served.model.layers[-1], keras.layers.Dense):
        endpoints["features"] = (_of(_features(served)), pixels)
    if monte_carlo_samples:
        endpoints["monte_carlo"] = (
            _monte_carlo(served, monte_carlo_samples),
            pixels,
        )
    return endpoints


def _features(served):
    """A Keras model from raw pixels to the input of the last layer."""
    body = keras.Model(served.model.inputs, served.model.layers[-1].input)
    images, x = tasks.serving_inputs(served.model, served.preprocessing)
    return keras.Model(images, body(x, training=False))


def _of(model):
    """A function that calls a Keras model in inference mode."""
    import tensorflow as tf

    return lambda images: model(tf.cast(images, tf.float32), training=False)


def _of_files(served):
    """The endpoint from image files to answers, with a status for each file."""
    import tensorflow as tf

    answer = _of(served.answering)

    def endpoint(images):
        pixels, status = decode_each(images, served.preprocessing)
        good = (status == OK)[:, None]
        return {
            "probabilities": tf.where(good, answer(pixels), 0.0),
            "status": status,
        }

    return endpoint


def _monte_carlo(served, samples):
    """The endpoint from uint8 images to mean and variance over random passes.

    The passes run one after another, so memory does not grow with `samples`.
    """
    import tensorflow as tf

    if samples < 2:
        raise ExportError(
            "`monte_carlo_samples` must be 2 or more, or 0 to leave out the "
            f"endpoint. Received: monte_carlo_samples={samples}."
        )
    try:
        with dropping_as_trained(served.model):
            pass
    except ValueError as error:
        raise ExportError(f"`monte_carlo_samples`: {error}") from error

    answer = _of(served.answering)

    def endpoint(images):
        with dropping_as_trained(served.model):
            drawn = tf.map_fn(
                lambda _: answer(images),
                tf.range(samples),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
        mean, variance = tf.nn.moments(drawn, axes=[0])
        return {"mean": mean, "variance": variance}

    return endpoint


def _write(served, endpoints, path):
    archive = keras.export.ExportArchive()
    archive.track(served.answering)
    for name, (function, spec) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=[spec])
    # tensorflow_hub.KerasLayer and a call of the loaded object use this.
    archive.add_endpoint(
        "__call__",
        endpoints["serve"][0],
        input_signature=[endpoints["serve"][1]],
    )
    archive.write_out(str(path), verbose=False)


def _compare(served, path):
    """Compare every endpoint with the model on random images."""
    import tensorflow as tf

    images = served.random_images()
    seen = np.stack([served.preprocessing.fit(image) for image in images])
    files = [*map(tf.io.encode_png, images), b""]
    normalized = served.preprocessing.normalize(images)
    expected = served.answers(images)
    loaded = tf.saved_model.load(str(path))
    of_files = loaded.serve_bytes(tf.stack(files))
    if of_files["status"].numpy().tolist() != [
        *[OK.encode()] * len(images),
        EMPTY.encode(),
    ]:
        raise DifferenceError(
            "The SavedModel's serve_bytes gave the wrong status for three PNG "
            f"files and an empty one: {of_files['status']}. The SavedModel "
            "was not kept."
        )
    pixels = images.astype("float32")
    for given, wanted in (
        (loaded(pixels), expected),
        (loaded.serve(pixels), expected),
        (loaded.serve_uint8(images), expected),
        (loaded.serve_normalized(normalized), expected),
        (of_files["probabilities"][:-1], served.answers(seen)),
    ):
        check_same("SavedModel", given, wanted)
    if hasattr(loaded, "features"):
        features = _features(served)(pixels)
        check_same("SavedModel's features", loaded.features(images), features)
    if hasattr(loaded, "monte_carlo"):
        drawn = loaded.monte_carlo(images)
        for name, values in drawn.items():
            if values.shape != expected.shape or not np.isfinite(values).all():
                raise DifferenceError(
                    f"The SavedModel's monte_carlo must give a {name} of the "
                    f"shape {expected.shape} with finite numbers. It was not "
                    "kept."
                )


class _FIXED:
    """The endpoints of tasks whose images all have one size."""

    endpoints = staticmethod(_endpoints)
    compare = staticmethod(_compare)
