"""SavedModels that need neither this package nor its preprocessing."""

import os
import pathlib
import shutil

import keras
import numpy as np

from keras_dropblock.data.headers import EMPTY, OK
from keras_dropblock.data.images import fit_to_size
from keras_dropblock.exporting import endpoints
from keras_dropblock.exporting.comparing import (
    check_same,
    probabilities,
    random_images,
)
from keras_dropblock.exporting.errors import DifferenceError


def export(
    model,
    out,
    normalise,
    central_part=1.0,
    *,
    labels=None,
    recipe=None,
    monte_carlo_samples=0,
):
    """Write a model as a SavedModel in TensorFlow Serving's layout.

    Endpoints, each also a signature, that all take a batch:

    - `serve`, the default signature and what the loaded object itself does
      when called: float32 images, normalised already -> probabilities.
    - `serve_uint8`: uint8 images (batch, height, width, channels) ->
      probabilities.
    - `serve_bytes`: strings, each a whole JPEG or PNG file of any size. The
      image is fitted to the model's size as in the test, by `central_part`
      of the largest central part of that shape. -> a dict of `probabilities`
      and of `status`, strings: `ok`, or what is wrong with that file (see
      `encoded.decode_each`), whose probabilities are then all 0.
    - `features`: uint8 images -> what the classifier reads, pooled; for a
      model whose last layer is Dense.
    - `monte_carlo`, on request: uint8 images -> a dict of `mean` and
      `variance` (over n, not n - 1) of the probabilities over samples with
      DropBlock and dropout on. It draws anew at each call. DropBlock scales
      by the whole batch, so an image's result depends a little on the others.

    The SavedModel is compared with the model before it takes its place: what
    differs by more than 1e-5 is not kept. Of `monte_carlo`, which draws, only
    that it gives probabilities.

    Args:
        model: a functional model, or a built `keras.Sequential`, that gives
            logits (batch, classes) for images of a known size.
        out: folder of the model, such as `saved_models/NAME`. The SavedModel
            goes into the next free version below it: 1, 2, ...
        normalise: `data.Normalise` that the model was trained with.
        central_part: share of an image's shorter side that `serve_bytes`
            shows the network, in (0, 1]: the recipe's.
        labels: names of the classes, for `assets/labels.txt`, one a line.
        recipe: `Recipe`, for `assets/recipe.toml`.
        monte_carlo_samples: forward passes of `monte_carlo`; 0: no such
            endpoint.

    Returns:
        Path of the SavedModel, `out/<version>`.

    Raises:
        ExportError: on another backend than TensorFlow; for a model that is
            not built or not of this form, whose image size is not known, or
            whose images have other than 1, 3 or 4 channels; for labels that
            are too few or too many; or for Monte Carlo with a model that
            drops nothing.
        DifferenceError: if the SavedModel does not give what the model gives.
    """
    endpoints.check_exportable(model, labels)
    asked = _endpoints(model, normalise, central_part, monte_carlo_samples)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{os.getpid()}"
    try:
        _write(model, asked, temporary)
        _check(model, normalise, central_part, temporary)
        write_assets(temporary / "assets", labels, recipe)
        path = out / str(_next_version(out))
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _next_version(out):
    versions = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
    return max(versions, default=0) + 1


def _endpoints(model, normalise, central_part, monte_carlo_samples):
    """A dict from names to functions and the specifications of what comes."""
    import tensorflow as tf

    shape = (None, *model.inputs[0].shape[1:])
    floats = tf.TensorSpec(shape, tf.float32, name="images")
    pixels = tf.TensorSpec(shape, tf.uint8, name="images")
    files = tf.TensorSpec((None,), tf.string, name="images")
    asked = {
        "serve": (endpoints.serve(model), floats),
        "serve_uint8": (endpoints.serve_uint8(model, normalise), pixels),
        "serve_bytes": (
            endpoints.serve_bytes(model, normalise, central_part),
            files,
        ),
    }
    features = endpoints.features(model, normalise)
    if features:
        asked["features"] = (features, pixels)
    if monte_carlo_samples:
        asked["monte_carlo"] = (
            endpoints.monte_carlo(model, normalise, monte_carlo_samples),
            pixels,
        )
    return asked


def _write(model, asked, path):
    import tensorflow as tf

    class Served(tf.Module):
        # As loaders of TensorFlow Hub's kind look for them.
        variables = trainable_variables = None

    served = Served()
    served.trainable_variables = []  # to be tuned by other means
    served.variables = [variable.value for variable in model.variables]
    functions = {
        name: tf.function(function, input_signature=[spec], autograph=False)
        for name, (function, spec) in asked.items()
    }
    for name, function in functions.items():
        setattr(served, name, function)
    served.__call__ = functions["serve"]
    tf.saved_model.save(
        served,
        str(path),
        signatures={"serving_default": served.serve, **functions},
    )


def _check(model, normalise, central_part, path):
    """Compare every endpoint with the model on random images."""
    import tensorflow as tf

    images = random_images(model)
    size = images.shape[1:3]
    seen = [fit_to_size(image, size, central_part) for image in images]
    files = [*map(tf.io.encode_png, images), b""]
    expected = probabilities(model, normalise, images)
    loaded = tf.saved_model.load(str(path))
    of_files = loaded.serve_bytes(tf.stack(files))
    if of_files["status"].numpy().tolist() != [
        *[OK.encode()] * len(images),
        EMPTY.encode(),
    ]:
        raise DifferenceError(
            f"The SavedModel's serve_bytes says {of_files['status']} of three "
            "PNG files and an empty one. It was not kept."
        )
    for given, wanted in (
        (loaded(normalise(images)), expected),
        (loaded.serve_uint8(images), expected),
        (
            of_files["probabilities"][:-1],
            probabilities(model, normalise, np.stack(seen)),
        ),
    ):
        check_same("SavedModel", given, wanted)
    if hasattr(loaded, "features"):
        given = keras.ops.softmax(model.layers[-1](loaded.features(images)))
        check_same("SavedModel", given, expected)
    if hasattr(loaded, "monte_carlo"):
        drawn = loaded.monte_carlo(images)
        sums = keras.ops.sum(drawn["mean"], -1)
        check_same("SavedModel's monte_carlo", sums, np.ones(len(images)))


def write_assets(folder, labels, recipe):
    """Write `labels.txt` and `recipe.toml`, those that there are."""
    if labels is not None:
        folder.mkdir(exist_ok=True)
        lines = (" ".join(label.split()) + "\n" for label in labels)
        (folder / "labels.txt").write_text("".join(lines), encoding="utf-8")
    if recipe is not None:
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
