"""Residual blocks, before and after activation, as Keras layers."""

import keras

from keras_dropblock.layers.convolution import batch_norm, conv2d
from keras_dropblock.layers.dropblock import (
    DropBlock2D,
    check_block_size,
    check_data_format,
    check_keep_prob,
)
from keras_dropblock.layers.dropout import (
    Dropout,
    SpatialDropout2D,
    StochasticDepth,
    check_rate,
    check_survival_prob,
)


class _ResidualBlock(keras.Layer):
    """What blocks share: options, convs, norms and regularisers.

    A subclass says which conv has the stride, where DropBlock stands, and in
    which order all is called.
    """

    def __init__(
        self,
        filters,
        kernel_sizes=(3, 3),
        *,
        inner_filters=None,
        strides=1,
        dropout=0.0,
        spatial_dropout=0.0,
        survival_prob=1.0,
        keep_prob=1.0,
        block_size=7,
        dropblock_skip=True,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_sizes = tuple(kernel_sizes)
        self.inner_filters = inner_filters or filters
        self.strides = strides
        self.dropout = check_rate("dropout", dropout)
        self.spatial_dropout = check_rate("spatial_dropout", spatial_dropout)
        self.survival_prob = check_survival_prob(survival_prob)
        self.keep_prob = check_keep_prob(keep_prob)
        self.block_size = check_block_size(block_size)
        self.dropblock_skip = dropblock_skip
        self.data_format = check_data_format(data_format)
        if (dropout or spatial_dropout) and len(self.kernel_sizes) == 1:
            raise ValueError(
                "`dropout` and `spatial_dropout` stand between the convs of a "
                f"block, and B({self.kernel_sizes[0]}) has one conv only. "
                f"Received: dropout={dropout}, "
                f"spatial_dropout={spatial_dropout}. "
                "Use a block of two, such as B(3,3)."
            )
        self._make_convs()
        self._make_regularisers()
        self.shortcut = None  # made in `build`, which knows the input

    def _make_convs(self):
        count = len(self.kernel_sizes)
        self.convs = [
            self._conv(
                self.filters if i == count - 1 else self.inner_filters,
                kernel_size,
                self.strides if i == self._strided_conv() else 1,
                name=f"conv{i + 1}",
            )
            for i, kernel_size in enumerate(self.kernel_sizes)
        ]
        self.norms = [self._norm(f"bn{i + 1}") for i in range(count)]

    def _make_regularisers(self):
        """Layers by place; an option that is off makes no layer at all."""
        own = {"dtype": self.dtype_policy}
        between = range(1, len(self.kernel_sizes))
        self.dropouts = [
            Dropout(self.dropout, name=f"dropout{i}", **own)
            for i in between
            if self.dropout
        ]
        self.spatial_dropouts = [
            SpatialDropout2D(
                self.spatial_dropout,
                data_format=self.data_format,
                name=f"spatial_dropout{i}",
                **own,
            )
            for i in between
            if self.spatial_dropout
        ]
        self.dropblocks = [
            self._dropblock(f"dropblock{i}")
            for i in self._dropblock_places()
            if self.keep_prob < 1.0
        ]
        self.dropblock_shortcut = None
        if self.keep_prob < 1.0 and self.dropblock_skip:
            self.dropblock_shortcut = self._dropblock("dropblock_shortcut")
        self.stochastic_depth = None
        if self.survival_prob < 1.0:
            self.stochastic_depth = StochasticDepth(
                self.survival_prob, name="stochastic_depth", **own
            )

    def _conv(self, filters, kernel_size, strides, name):
        return conv2d(
            filters,
            kernel_size,
            strides,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def _norm(self, name):
        return batch_norm(self.data_format, name=name, dtype=self.dtype_policy)

    def _dropblock(self, name):
        return DropBlock2D(
            self.keep_prob,
            self.block_size,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def _changes_shape(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        return channels != self.filters or self.strides != 1

    def _between(self, i, x, training):
        """Dropout and its kin after the i-th conv but the last, from 0."""
        for layers in (self.dropouts, self.spatial_dropouts):
            if layers:
                x = layers[i](x, training=training)
        return x

    def _branches(self, x, skip, training):
        """What stands on the two branches just before they are added."""
        if self.dropblock_shortcut is not None:
            skip = self.dropblock_shortcut(skip, training=training)
        if self.stochastic_depth is not None:
            x = self.stochastic_depth(x, training=training)
        return x, skip

    def compute_output_shape(self, input_shape):
        for conv in self.convs:
            input_shape = conv.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": self.kernel_sizes,
            "inner_filters": self.inner_filters,
            "strides": self.strides,
            "dropout": self.dropout,
            "spatial_dropout": self.spatial_dropout,
            "survival_prob": self.survival_prob,
            "keep_prob": self.keep_prob,
            "block_size": self.block_size,
            "dropblock_skip": self.dropblock_skip,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable("keras_dropblock")
class PreActivationBlock(_ResidualBlock):
    """A pre-activation residual block B(M): BN-ReLU-conv for each kernel of M.

    B(3,3) is the basic block of Wide ResNets; B(1,3,1) with a quarter of the
    channels inside is the bottleneck of pre-activation ResNets. The stride is
    that of the first conv.

    The shortcut is the identity where channels and stride stay. Elsewhere it
    is a 1x1 conv that reads the tensor after the first BN-ReLU, which the two
    branches then share; many ports let it read the raw input instead.

    Dropout stands between the convs, after BN-ReLU, as in the paper.
    DropBlock stands after the BN-ReLU that follows the first conv, and on
    the shortcut, each with a mask of its own. A block of one conv has the one
    on the shortcut alone. With `keep_prob=1.0` there is no DropBlock layer
    at all, and weights files are the same either way.

    Args:
        filters: channels of the last conv, int >= 1.
        kernel_sizes: the kernel of each conv, M of B(M).
        inner_filters: channels of the other convs; None: `filters`.
        strides: stride of the first conv.
        dropout: rate of Dropout between the convs, in [0, 1].
        spatial_dropout: rate of SpatialDropout2D in the same places.
        survival_prob: of the branch under stochastic depth, in (0, 1].
        keep_prob: DropBlock's, in [0, 1].
        block_size: DropBlock's, int >= 1.
        dropblock_skip: whether DropBlock stands on the shortcut too.
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

    def _strided_conv(self):
        return 0

    def _dropblock_places(self):
        return [1] if len(self.kernel_sizes) > 1 else []

    def build(self, input_shape):
        if self._changes_shape(input_shape):
            self.shortcut = self._conv(
                self.filters, 1, self.strides, name="shortcut"
            )
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
            if i == 1 and self.dropblocks:
                x = self.dropblocks[0](x, training=training)
            x = self._between(i - 1, x, training)
            x = self.convs[i](x)
        x, skip = self._branches(x, skip, training)
        return x + skip


@keras.saving.register_keras_serializable("keras_dropblock")
class PostActivationBlock(_ResidualBlock):
    """An original residual block: conv-BN-ReLU, and a ReLU after the sum.

    (3, 3) is the basic block, (1, 3, 1) with fewer channels inside the
    bottleneck. The stride is that of the first 3x3 conv, as in Torch's and
    TensorFlow's code (not the paper's, where it is the first conv's).

    The shortcut is the identity where channels and stride stay, elsewhere a
    1x1 conv with BN, or without parameters (option A) every other unit with
    zeros for the channels that are not there.

    DropBlock stands after every conv-BN(-ReLU) and on the shortcut: the four
    places of a bottleneck. The paper's code leaves basic blocks without;
    here they have the same rule, hence three places.

    Args:
        filters: channels of the last conv, int >= 1.
        kernel_sizes: the kernel of each conv.
        inner_filters: channels of the other convs; None: `filters`.
        strides: stride of the first 3x3 conv.
        projection: whether a shortcut that changes shape has parameters.
        zero_init: whether the last BN starts with gamma 0, so that the block
            starts as its shortcut.
        Others as in `PreActivationBlock`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.3; the
        places of DropBlock: `bottleneck_block` of the DropBlock paper's code
        (tensorflow/tpu, models/official/resnet).
    """

    def __init__(self, *args, projection=True, zero_init=False, **kwargs):
        self.projection = projection
        self.zero_init = zero_init
        super().__init__(*args, **kwargs)
        if zero_init:
            self.norms[-1].gamma_initializer = keras.initializers.Zeros()
        self.shortcut_norm = None

    def _strided_conv(self):
        return self.kernel_sizes.index(3)

    def _dropblock_places(self):
        return range(1, len(self.kernel_sizes) + 1)

    def build(self, input_shape):
        shape = input_shape
        for norm, conv in zip(self.norms, self.convs, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        if self.projection and self._changes_shape(input_shape):
            self.shortcut = self._conv(
                self.filters, 1, self.strides, name="shortcut"
            )
            self.shortcut.build(input_shape)
            self.shortcut_norm = self._norm("shortcut_bn")
            self.shortcut_norm.build(shape)
        self.built = True

    def call(self, inputs, training=False):
        x = inputs
        for i, (conv, norm) in enumerate(
            zip(self.convs, self.norms, strict=True)
        ):
            x = norm(conv(x), training=training)
            last = i == len(self.convs) - 1
            if not last:
                x = keras.ops.relu(x)
            if self.dropblocks:
                x = self.dropblocks[i](x, training=training)
            if not last:
                x = self._between(i, x, training)
        x, skip = self._branches(x, self._skip(inputs, training), training)
        return keras.ops.relu(x + skip)

    def _skip(self, inputs, training):
        if self.shortcut is not None:
            x = self.shortcut(inputs)
            return self.shortcut_norm(x, training=training)
        if not self._changes_shape(inputs.shape):
            return inputs
        step = slice(None, None, self.strides)
        if self.data_format == "channels_last":
            x, axis = inputs[:, step, step], 3
        else:
            x, axis = inputs[:, :, step, step], 1
        pads = [(0, 0)] * 4
        pads[axis] = (0, self.filters - inputs.shape[axis])
        return keras.ops.pad(x, pads)

    def get_config(self):
        return {
            **super().get_config(),
            "projection": self.projection,
            "zero_init": self.zero_init,
        }
