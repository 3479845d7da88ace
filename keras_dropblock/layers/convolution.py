"""Convolution and normalization with the settings of the papers' code."""

import keras

from keras_dropblock.layers import draws
from keras_dropblock.layers.normalization import BatchNormalization


@keras.saving.register_keras_serializable("keras_dropblock")
class SymmetricConv2D(keras.layers.Conv2D):
    """A convolution with the same padding on all four sides, as in Torch.

    With a stride of 2, a 3x3 kernel and an even map, Keras's `padding="same"`
    adds one unit at the bottom and right only. Torch, and the papers' code,
    add one unit on every side. The output has the same size, but the kernel
    reads other positions, so weights trained with one padding are slightly
    wrong with the other.

    Takes the arguments of `keras.layers.Conv2D` except `padding`. The kernel
    must be a square with an odd side, and both strides must be equal.

    Output shape:
        `ceil(size / strides)` on each spatial axis, as with `"same"`.
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        # With a stride of 1, "same" is symmetric and saves one operation.
        padding = "same" if strides == 1 or kernel_size == 1 else "valid"
        kwargs["padding"] = padding
        super().__init__(filters, kernel_size, strides=strides, **kwargs)
        if len({*self.kernel_size}) != 1 or self.kernel_size[0] % 2 == 0:
            raise ValueError(
                "`kernel_size` must be odd, and the same on both axes. "
                f"Received: kernel_size={kernel_size!r}."
            )
        if len({*self.strides}) != 1:
            raise ValueError(
                "`strides` must be the same on both axes. "
                f"Received: strides={strides!r}."
            )

    def call(self, inputs):
        if self.padding == "valid":
            pads = [((k - 1) // 2, (k - 1) // 2) for k in self.kernel_size]
            first = 1 if self.data_format == "channels_last" else 2
            all_pads = [(0, 0)] * 4
            all_pads[first : first + 2] = pads
            inputs = keras.ops.pad(inputs, all_pads)
        return super().call(inputs)

    def convolution_op(self, inputs, kernel):
        if self.data_format == "channels_last" or not (
            keras.backend.backend() == "tensorflow" and draws.on_cpu(inputs)
        ):
            return super().convolution_op(inputs, kernel)
        # TensorFlow cannot run channels-first convolutions on a CPU.
        outputs = keras.ops.conv(
            keras.ops.transpose(inputs, (0, 2, 3, 1)),
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        return keras.ops.transpose(outputs, (0, 3, 1, 2))

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        first = 1 if self.data_format == "channels_last" else 2
        for axis, stride in zip((first, first + 1), self.strides, strict=True):
            if shape[axis] is not None:
                shape[axis] = -(-shape[axis] // stride)
        shape[-1 if self.data_format == "channels_last" else 1] = self.filters
        return tuple(shape)

    def get_config(self):
        config = super().get_config()
        config.pop("padding")
        config["kernel_size"] = self.kernel_size[0]
        config["strides"] = self.strides[0]
        return config


def conv2d(filters, kernel_size, strides=1, **kwargs):
    """Create a conv without bias, with untruncated He initialization.

    Reference:
        He et al. 2015, https://arxiv.org/abs/1502.01852, section 2.2 (fan-in).
    """
    return SymmetricConv2D(
        filters,
        kernel_size,
        strides,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, mode="fan_in", distribution="untruncated_normal"
        ),
        **kwargs,
    )


def synchronize_norms(model):
    """Compute batch statistics over all replicas, not for each replica.

    Use it with `tf.distribute.MirroredStrategy`, before the model is
    compiled. Two replicas then train as one device does.

    Args:
        model: its batch normalization layers are changed in place.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def batch_norm(data_format, **kwargs):
    """Create batch normalization with Torch's constants, as in the papers.

    Keras's momentum of 0.9 is the same as Torch's momentum of 0.1. Deviation:
    the original Wide ResNet code draws the initial gamma from U(0, 1); here
    gamma starts at 1.
    """
    return BatchNormalization(
        axis=-1 if data_format == "channels_last" else 1,
        momentum=0.9,
        epsilon=1e-5,
        **kwargs,
    )
