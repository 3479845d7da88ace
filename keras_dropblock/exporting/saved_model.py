"""SavedModels that need neither this package nor its preprocessing."""

import os
import pathlib
import shutil

import keras
import numpy as np

from keras_dropblock.data.images import fit_to_size


class ExportError(ValueError):
    """A model that cannot be exported; says what to do."""


def export(model, out, normalise, central_part=1.0):
    """Write a model as a SavedModel in TensorFlow Serving's layout.

    Three endpoints, each also a signature, all give probabilities
    `(batch, classes)`:

    - `serve` (the default signature): float32 images, normalised already.
    - `serve_uint8`: uint8 images `(batch, height, width, channels)`.
    - `serve_bytes`: strings, each a whole JPEG or PNG file of any size. The
      image is fitted to the model's size as in the test, by `central_part`
      of the largest central part of that shape. Other bytes are an error that
      names the endpoint and the rule.

    The SavedModel is compared with the model before it takes its place: what
    differs by more than 1e-5 is not kept.

    Args:
        model: a model that gives logits for images of a known size.
        out: folder of the model, such as `saved_models/NAME`. The SavedModel
            goes into the next free version below it: 1, 2, ...
        normalise: `data.Normalise` that the model was trained with.
        central_part: share of an image's shorter side that `serve_bytes`
            shows the network, in (0, 1]: the recipe's.

    Returns:
        Path of the SavedModel, `out/<version>`.

    Raises:
        ExportError: on another backend than TensorFlow, or for a model whose
            image size is not known or whose images have other than 1, 3 or 4
            channels.
        RuntimeError: if the SavedModel does not give what the model gives.
    """
    _check_exportable(model)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{os.getpid()}"
    try:
        _write(model, normalise, central_part, temporary)
        _check(model, normalise, central_part, temporary)
        path = out / str(_next_version(out))
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _check_exportable(model):
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs the TensorFlow backend; weights files are the same "
            f"on all. Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    shape = model.input.shape
    if None in shape[1:] or shape[-1] not in (1, 3, 4):
        raise ExportError(
            "`model` must have a known image size and 1, 3 or 4 channels, as "
            f"JPEG and PNG files have. Received: input shape {shape}."
        )


def _next_version(out):
    versions = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
    return max(versions, default=0) + 1


def _write(model, normalise, central_part, path):
    import tensorflow as tf

    _, *size, channels = model.input.shape

    def serve(images):
        return tf.nn.softmax(model(images, training=False))

    def serve_uint8(images):
        return serve(normalise(tf.cast(images, tf.float32)))

    def serve_bytes(images):
        decoded = tf.map_fn(
            lambda image: fit_to_size(
                _decode(image, channels), size, central_part
            ),
            images,
            fn_output_signature=tf.TensorSpec((*size, channels), tf.uint8),
        )
        return serve_uint8(decoded)

    archive = keras.export.ExportArchive()
    archive.track(model)
    shape = (None, *size, channels)
    for endpoint, spec in (
        (serve, tf.TensorSpec(shape, tf.float32, name="images")),
        (serve_uint8, tf.TensorSpec(shape, tf.uint8, name="images")),
        (serve_bytes, tf.TensorSpec((None,), tf.string, name="images")),
    ):
        archive.add_endpoint(endpoint.__name__, endpoint, [spec])
    archive.write_out(str(path), verbose=False)


def _decode(image, channels):
    """A JPEG or PNG file as uint8 (height, width, channels)."""
    import tensorflow as tf

    is_jpeg = tf.equal(tf.strings.substr(image, 0, 3), b"\xff\xd8\xff")
    is_png = tf.equal(tf.strings.substr(image, 0, 8), b"\x89PNG\r\n\x1a\n")
    rule = tf.debugging.Assert(
        is_jpeg | is_png,
        [
            "serve_bytes: each of `images` must be a whole JPEG or PNG file. "
            "Received one that is neither, of this many bytes:",
            tf.strings.length(image),
        ],
    )
    with tf.control_dependencies([rule]):
        pixels = tf.io.decode_image(
            image, channels=channels, expand_animations=False
        )
    pixels.set_shape((None, None, channels))
    return pixels


def _check(model, normalise, central_part, path):
    """Compare every endpoint with the model on random images."""
    import tensorflow as tf

    shape = (3, *model.input.shape[1:])
    images = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    files = tf.stack([tf.io.encode_png(image) for image in images])
    seen = np.stack(
        [fit_to_size(image, shape[1:3], central_part) for image in images]
    )
    loaded = tf.saved_model.load(str(path))
    for endpoint, arguments, pixels in (
        (loaded.serve, normalise(images), images),
        (loaded.serve_uint8, images, images),
        (loaded.serve_bytes, files, seen),
    ):
        logits = model.predict_on_batch(normalise(pixels))
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        difference = abs(endpoint(arguments).numpy() - expected).max()
        if not difference <= 1e-5:
            raise RuntimeError(
                f"The SavedModel differs from the model by {difference:.1e} "
                "in probability; more than 1e-5. It was not kept."
            )
