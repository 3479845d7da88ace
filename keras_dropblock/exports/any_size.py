"""SavedModels that take images of any size, and answer in their pixels."""

import keras
import numpy as np

from keras_dropblock.data.headers import EMPTY, OK
from keras_dropblock.errors import DifferenceError, ExportError
from keras_dropblock.exports.image_files import decode_with_sizes
from keras_dropblock.exports.served import check_same

_SIZES = ((37, 61), (80, 50))  # of the images that a SavedModel is tested on


def endpoints(served, monte_carlo_samples=0):
    """The endpoints of a SavedModel: see `export_saved_model`.

    Args:
        served: `Served` with a task that has `any_size`.
        monte_carlo_samples: must be 0.

    Returns:
        Dict from name to (function, specification of its input).
    """
    import tensorflow as tf

    if monte_carlo_samples:
        raise ExportError(
            "`monte_carlo_samples` must be 0 for this task. Received: "
            f"monte_carlo_samples={monte_carlo_samples}."
        )
    channels = served.image_shape[-1]
    any_size = (None, None, None, channels)
    frames = tf.TensorSpec((None, *served.image_shape), tf.float32, "images")
    return {
        "serve": (_of_pixels(served), tf.TensorSpec(any_size, tf.float32)),
        "serve_uint8": (_of_pixels(served), tf.TensorSpec(any_size, tf.uint8)),
        "serve_normalized": (_heads(served), frames),
        "serve_bytes": (_of_files(served), tf.TensorSpec((None,), tf.string)),
    }


def _heads(served):
    """From normalized images of the network's size to its raw outputs.

    They are a dict, so that each output has a name.
    """

    def heads(images):
        outputs = served.model(images, training=False)
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    return heads


def _answers(served, frames, sizes, encoded):
    """Answers to uint8 frames, in the pixels of images of these sizes."""
    normalized = served.preprocessing.layer()(frames)
    heads = served.model(normalized, training=False)
    return served.task.graph_answers(
        served.model, heads, normalized, sizes, encoded
    )


def _of_pixels(served):
    import tensorflow as tf

    def endpoint(images):
        pixels = tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0, 255)
        frames = tf.map_fn(
            served.preprocessing.fit,
            tf.cast(pixels, tf.uint8),
            fn_output_signature=tf.TensorSpec(served.image_shape, tf.uint8),
        )
        sizes = tf.repeat(
            tf.shape(images)[None, 1:3], tf.shape(images)[0], axis=0
        )
        return _answers(served, frames, sizes, encoded=False)

    return endpoint


def _of_files(served):
    import tensorflow as tf

    def endpoint(images):
        frames, status, sizes = decode_with_sizes(images, served.preprocessing)
        good = status == OK
        answers = _answers(served, frames, sizes, encoded=True)
        for name, values in answers.items():
            shape = tf.concat(
                [tf.shape(good), tf.ones(tf.rank(values) - 1, tf.int32)], 0
            )
            # Zeros, or empty strings, for files that cannot be used.
            answers[name] = tf.where(
                tf.reshape(good, shape), values, tf.zeros_like(values)
            )
        return {**answers, "status": status}

    return endpoint


def compare(served, path):
    """Compare a SavedModel with the model, on images of several sizes.

    Raises:
        DifferenceError: if an answer differs.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    rng = np.random.default_rng(0)
    channels = served.image_shape[-1]
    images = [
        rng.integers(0, 256, (*size, channels), "uint8") for size in _SIZES
    ]
    frames = np.stack(
        [np.asarray(served.preprocessing.fit(tf.constant(i))) for i in images]
    )
    normalized = served.preprocessing.normalize(frames)
    heads = _heads(served)(normalized)
    check_same("SavedModel", loaded.serve_normalized(normalized), heads)
    files = tf.stack([*map(tf.io.encode_png, images), b""])
    of_files = loaded.serve_bytes(files)
    wanted = [OK.encode()] * len(images) + [EMPTY.encode()]
    if of_files["status"].numpy().tolist() != wanted:
        raise DifferenceError(
            "The SavedModel's serve_bytes gave the wrong status for two PNG "
            f"files and an empty one: {of_files['status']}. The SavedModel "
            "was not kept."
        )
    expected = served.task.predict(served.model, served.card, images)
    for i, image in enumerate(images):
        alone = image[None]
        for given in (
            loaded(alone.astype("float32")),
            loaded.serve(alone.astype("float32")),
            loaded.serve_uint8(alone),
            {key: value[i : i + 1] for key, value in of_files.items()},
        ):
            given = keras.tree.map_structure(np.asarray, given)
            difference = served.task.answer_difference(
                given, expected[i], served.card
            )
            if difference:
                raise DifferenceError(
                    f"An answer of the SavedModel differs from the model's: "
                    f"{difference}. The SavedModel was not kept."
                )
