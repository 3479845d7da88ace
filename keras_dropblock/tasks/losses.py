"""The losses of detectors: sums, also with several replicas.

Under a TensorFlow strategy, Keras adds the gradients of the replicas. It
divides a loss by the number of replicas if its reduction is a mean, but not if
it is a sum. The losses here are sums written as means. The gradient is then the
mean over the replicas, and the logged loss too.
"""

import keras

BOX_WEIGHT = 50.0  # of tensorflow/tpu, for a Huber loss with delta 0.1


@keras.saving.register_keras_serializable("keras_dropblock")
class SummedHuber(keras.losses.Loss):
    """Sum of Huber's loss over rows; a row is the mean of its coordinates.

    Not a subclass of `keras.losses.Huber`, whose config lacks `delta`.

    Args:
        delta: error at which the loss turns from quadratic to linear, > 0.
        name: name of the loss.
    """

    def __init__(self, delta=0.1, name="huber_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.delta = delta

    def call(self, y_true, y_pred):
        return _times_rows(keras.losses.huber(y_true, y_pred, self.delta))

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable("keras_dropblock")
class SummedFocalLoss(keras.losses.BinaryFocalCrossentropy):
    """Sum of the focal loss over rows; a row is the mean of its classes.

    Arguments are those of `keras.losses.BinaryFocalCrossentropy`, except
    `reduction`.
    """

    def call(self, y_true, y_pred):
        return _times_rows(super().call(y_true, y_pred))


def _times_rows(losses):
    """Losses whose mean is the sum of the given ones."""
    return losses * keras.ops.cast(keras.ops.size(losses), losses.dtype)
