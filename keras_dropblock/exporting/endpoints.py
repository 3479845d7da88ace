"""What an exported network can be asked: functions of tensors."""

import keras

from keras_dropblock.data.headers import OK
from keras_dropblock.exporting.encoded import decode_each
from keras_dropblock.exporting.errors import ExportError
from keras_dropblock.layers import dropping_as_trained


def check_exportable(model, labels):
    """Raise ExportError for a model that these functions cannot serve."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs the TensorFlow backend; weights files are the same "
            f"on all. Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    # None for an unbuilt Sequential; a subclassed model has no such list.
    inputs = [tensor.shape for tensor in getattr(model, "inputs", None) or ()]
    outputs = [tensor.shape for tensor in getattr(model, "outputs", None) or ()]
    if [len(shape) for shape in inputs + outputs] != [4, 2]:
        raise ExportError(
            "`model` must be a built model from images to logits, with one "
            "input and one output: functional, or a Sequential that begins "
            "with keras.Input or was built by "
            "model.build((None, height, width, channels)). "
            f"Received: {type(model).__name__} with inputs {inputs} and "
            f"outputs {outputs}."
        )
    (shape,), ((_, classes),) = inputs, outputs
    if None in shape[1:] or shape[-1] not in (1, 3, 4):
        raise ExportError(
            "`model` must have a known image size and 1, 3 or 4 channels, as "
            f"JPEG and PNG files have. Received: input shape {shape}."
        )
    if labels is not None and len(labels) != classes:
        raise ExportError(
            f"`labels` must have one name for each of the {classes} classes. "
            f"Received: {len(labels)} names."
        )


def serve(model):
    """Normalised float32 images -> probabilities."""
    import tensorflow as tf

    return lambda images: tf.nn.softmax(model(images, training=False))


def serve_uint8(model, normalise):
    """Images of 0 to 255, uint8 or not -> probabilities."""
    import tensorflow as tf

    probabilities = serve(model)
    return lambda images: probabilities(normalise(tf.cast(images, tf.float32)))


def serve_bytes(model, normalise, central_part):
    """Image files -> probabilities, and a status for each file."""
    import tensorflow as tf

    _, *size, channels = model.inputs[0].shape
    probabilities = serve_uint8(model, normalise)

    def endpoint(images):
        pixels, status = decode_each(images, size, channels, central_part)
        good = (status == OK)[:, None]
        return {
            "probabilities": tf.where(good, probabilities(pixels), 0.0),
            "status": status,
        }

    return endpoint


def features(model, normalise):
    """uint8 images -> what the last layer reads; None if it is no Dense."""
    import tensorflow as tf

    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        return None
    body = keras.Model(model.inputs, last.input)
    return lambda images: body(
        normalise(tf.cast(images, tf.float32)), training=False
    )


def monte_carlo(model, normalise, samples):
    """uint8 images -> mean and variance of the probabilities under dropping.

    One pass after another, so that the memory is that of one.
    """
    import tensorflow as tf

    if samples < 2:
        raise ExportError(
            "`monte_carlo_samples` must be 2 or more, or 0 for no such "
            f"endpoint. Received: monte_carlo_samples={samples}."
        )
    try:
        with dropping_as_trained(model):
            pass
    except ValueError as error:
        raise ExportError(f"`monte_carlo_samples`: {error}") from error

    def endpoint(images):
        x = normalise(tf.cast(images, tf.float32))
        with dropping_as_trained(model):
            drawn = tf.map_fn(
                lambda _: tf.nn.softmax(model(x, training=False)),
                tf.range(samples),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
        mean, variance = tf.nn.moments(drawn, axes=[0])
        return {"mean": mean, "variance": variance}

    return endpoint
