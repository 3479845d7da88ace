"""The residual blocks B(M) of Wide ResNets as Keras layers."""

import keras

from keras_dropblock.layers.dropblock import DropBlock2D


@keras.saving.register_keras_serializable("keras_dropblock")
class SymmetricConv2D(keras.layers.Conv2D):
    """A convolution that pads as the papers' code does, alike on every side.

    On an even map with a stride of 2, `padding="same"` pads one unit at the
    bottom and right alone; Torch pads one on every side. Sizes are the same,
    the places that the kernel looks at are not, so weights trained with one
    are a little off with the other.

    Arguments are those of `keras.layers.Conv2D` less `padding`. Kernels must
    have odd sides.

    Output shape:
        `ceil(size / strides)` on each spatial axis, as with `"same"`.
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        # Without a stride, "same" is symmetric, and one operation less.
        padding = "same" if strides == 1 or kernel_size == 1 else "valid"
        kwargs["padding"] = padding
        super().__init__(filters, kernel_size, strides=strides, **kwargs)

    def call(self, inputs):
        if self.padding == "valid":
            pads = [((k - 1) // 2, (k - 1) // 2) for k in self.kernel_size]
            first = 1 if self.data_format == "channels_last" else 2
            all_pads = [(0, 0)] * 4
            all_pads[first : first + 2] = pads
            inputs = keras.ops.pad(inputs, all_pads)
        return super().call(inputs)

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
    """A convolution of a residual network: no bias, untruncated He init.

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


def batch_norm(data_format, **kwargs):
    """Batch normalisation with Torch's constants, as the papers' code has.

    Torch's momentum 0.1 is Keras's 0.9. Deviation: the original code starts
    gamma from U(0, 1); here it starts from 1.
    """
    return keras.layers.BatchNormalization(
        axis=-1 if data_format == "channels_last" else 1,
        momentum=0.9,
        epsilon=1e-5,
        **kwargs,
    )


@keras.saving.register_keras_serializable("keras_dropblock")
class PreActivationBlock(keras.Layer):
    """A pre-activation residual block B(M): BN-ReLU-conv for each kernel of M.

    B(3,3) is the basic block of Wide ResNets, B(3,1,3), B(1,3,1) and so on
    are those that the paper compares with it. All convs have the same width.
    The stride is that of the first conv.

    The shortcut is the identity where channels and stride stay. Elsewhere it
    is a 1x1 conv that reads the tensor after the first BN-ReLU, which the two
    branches then share; many ports let it read the raw input instead.

    Dropout stands between the convs, after BN-ReLU, as in the paper.
    DropBlock stands after the BN-ReLU that follows the first conv, and on
    the shortcut, each with a mask of its own. A block of one conv has the one
    on the shortcut alone. With `keep_prob=1.0` there is no DropBlock layer
    at all, and weights files are the same either way.

    Args:
        filters: channels of every conv, int >= 1.
        kernel_sizes: the kernel of each conv, M of B(M).
        strides: stride of the first conv.
        dropout: rate of Dropout between the convs, in [0, 1).
        keep_prob: DropBlock's, in [0, 1].
        block_size: DropBlock's, int >= 1.
        data_format: `"channels_last"`, `"channels_first"` or None, which
            takes `keras.config.image_data_format()`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: for dropout in a block of one conv, which has no place
            for it.

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 2 and figure 1. The released code has B(3,3) alone: where the
        stride of the others stands is our choice.
    """

    def __init__(
        self,
        filters,
        kernel_sizes=(3, 3),
        *,
        strides=1,
        dropout=0.0,
        keep_prob=1.0,
        block_size=7,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_sizes = tuple(kernel_sizes)
        self.strides = strides
        self.dropout = dropout
        self.keep_prob = keep_prob
        self.block_size = block_size
        self.data_format = data_format or keras.config.image_data_format()
        if dropout and len(self.kernel_sizes) == 1:
            raise ValueError(
                "`dropout` stands between the convs of a block, and "
                f"B({self.kernel_sizes[0]}) has one conv only. Received: "
                f"dropout={dropout}. Use a block of two, such as B(3,3)."
            )
        numbers = range(1, len(self.kernel_sizes) + 1)
        self.norms = [
            batch_norm(self.data_format, name=f"bn{i}", dtype=self.dtype_policy)
            for i in numbers
        ]
        self.convs = [
            self._conv(kernel, strides if i == 1 else 1, name=f"conv{i}")
            for i, kernel in zip(numbers, self.kernel_sizes, strict=True)
        ]
        self.shortcut = None  # made in `build`, which knows the input
        self.dropouts = [
            keras.layers.Dropout(
                dropout, name=f"dropout{i}", dtype=self.dtype_policy
            )
            for i in numbers[1:]
            if dropout
        ]
        self.dropblock_conv = self.dropblock_shortcut = None
        if keep_prob < 1.0:
            self.dropblock_shortcut = self._dropblock("dropblock_shortcut")
            if len(self.convs) > 1:
                self.dropblock_conv = self._dropblock("dropblock_conv")

    def _conv(self, kernel, strides, name):
        return conv2d(
            self.filters,
            kernel,
            strides,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def _dropblock(self, name):
        return DropBlock2D(
            self.keep_prob,
            self.block_size,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        if channels != self.filters or self.strides != 1:
            self.shortcut = self._conv(1, self.strides, name="shortcut")
            self.shortcut.build(input_shape)
        shape = input_shape
        for norm, conv in zip(self.norms, self.convs, strict=True):
            norm.build(shape)
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        self.built = True

    def call(self, inputs, training=False):
        x = keras.ops.relu(self.norms[0](inputs, training=training))
        skip = inputs if self.shortcut is None else self.shortcut(x)
        x = self.convs[0](x)
        for i in range(1, len(self.convs)):
            x = keras.ops.relu(self.norms[i](x, training=training))
            if i == 1 and self.dropblock_conv is not None:
                x = self.dropblock_conv(x, training=training)
            if self.dropouts:
                x = self.dropouts[i - 1](x, training=training)
            x = self.convs[i](x)
        if self.dropblock_shortcut is not None:
            skip = self.dropblock_shortcut(skip, training=training)
        return x + skip

    def compute_output_shape(self, input_shape):
        return self.convs[0].compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": self.kernel_sizes,
            "strides": self.strides,
            "dropout": self.dropout,
            "keep_prob": self.keep_prob,
            "block_size": self.block_size,
            "data_format": self.data_format,
        }
