"""Batch normalization with TensorFlow's fused kernel."""

import keras


@keras.saving.register_keras_serializable("keras_dropblock")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with TensorFlow's fused kernel.

    Keras 3 uses about twelve operations on the whole map, and about as many
    for the gradient. TensorFlow has one fused operation for each. TensorFlow
    can also fuse it with a ReLU after it and, at inference, with a
    convolution before it. Arguments, weights and results are the same as in
    Keras. Keras's code is used where the kernel does not apply: other
    backends, channels first, maps that are not 4-D, masks, and statistics
    over all replicas.
    """

    def call(self, inputs, training=None, mask=None):
        if mask is not None or not self._has_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        of_batch = bool(training and self.trainable)
        gamma, beta, moving_mean, moving_variance = (
            tf.cast(variable.value, "float32")
            for variable in (
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
            )
        )
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=[] if of_batch else moving_mean,
            variance=[] if of_batch else moving_variance,
            epsilon=self.epsilon,
            is_training=of_batch,
        )
        if of_batch:
            # The kernel gives the variance with n - 1 in the denominator, as
            # Torch does for the moving variance. Keras uses n.
            size = tf.cast(tf.size(inputs) / tf.size(mean), "float32")
            variance *= tf.maximum(size - 1.0, 1.0) / size
            new = 1.0 - self.momentum
            self.moving_mean.assign(moving_mean * self.momentum + mean * new)
            self.moving_variance.assign(
                moving_variance * self.momentum + variance * new
            )
        return outputs

    def _has_kernel(self, inputs):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and dtype in ("float32", "bfloat16", "float16")
            and self.scale
            and self.center
            and not self.synchronized
            # Keras has `renorm` since version 3.14.
            and not getattr(self, "renorm", False)
        )
