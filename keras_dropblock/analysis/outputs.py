"""Outputs of models whose settings change from call to call."""

import keras
import numpy as np


def outputs(model, images, *, batch_size=256):
    """Outputs of a model at inference, without compiling it.

    Analyses change settings of layers between calls: they remove blocks, or
    drop at inference. A compiled function would be traced again for each
    setting, which takes longer than the calls.

    Args:
        model: `keras.Model` with one output.
        images: array of images, as the model takes them, at least one.
        batch_size: images in one call, int >= 1.

    Returns:
        float32 array (images, ...).
    """
    parts = [
        model(images[start : start + batch_size], training=False)
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(
        [
            keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
            for x in parts
        ]
    )
