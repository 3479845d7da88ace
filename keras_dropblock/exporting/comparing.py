"""Whether an export gives what the model gives."""

import keras
import numpy as np

from keras_dropblock.exporting.errors import DifferenceError

TOLERANCE = 1e-5  # in probability


def random_images(model, count=3):
    """uint8 noise (count, height, width, channels), the same each time."""
    shape = (count, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def probabilities(model, normalise, images):
    """The model's own probabilities for uint8 images."""
    logits = model.predict_on_batch(normalise(images))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def check_same(kind, given, expected):
    """Raise DifferenceError unless two arrays agree within the tolerance."""
    difference = abs(np.asarray(given) - np.asarray(expected)).max()
    if not difference <= TOLERANCE:
        raise DifferenceError(
            f"The {kind} differs from the model by {difference:.1e} in "
            f"probability; more than {TOLERANCE:.0e}. It was not kept."
        )
