"""Residual blocks with pre-activation and post-activation, as layers."""

import keras

from keras_dropblock.layers.block import ResidualBlock


@keras.saving.register_keras_serializable("keras_dropblock")
class PreActivationBlock(ResidualBlock):
    """A pre-activation residual block B(M): BN-ReLU-conv for each kernel of M.

    B(3,3) is the basic block of Wide ResNets. B(1,3,1) whose first two convs
    have a quarter of the channels is the bottleneck of pre-activation
    ResNets. The first conv has the stride.

    The shortcut is the identity if the channels stay the same and the stride
    is 1. Otherwise it is a 1x1 conv that reads the tensor after the first
    BN-ReLU, which both branches then share. Many other implementations read
    the raw input instead.

    Dropout is applied between the convs, after BN-ReLU, as in the paper.
    DropBlock is applied after the BN-ReLU that follows the first conv, and on
    the shortcut, each time with a separate mask. A block with a single conv
    has DropBlock on the shortcut only. With `keep_prob=1.0` there is no
    DropBlock layer; weights files are the same in both cases.

    Args:
        filters: channels of the last conv, int >= 1.
        kernel_sizes: kernel size of each conv, the M of B(M).
        inner_filters: channels of the other convs. None uses `filters`.
        strides: stride of the first conv.
        dropout: rate of Dropout between the convs, in [0, 1].
        spatial_dropout: rate of SpatialDropout2D in the same places.
        shortcut_dropout: rate of Dropout on the shortcut, in [0, 1].
        survival_prob: survival probability of the branch under stochastic
            depth, in (0, 1].
        keep_prob: keep_prob of DropBlock, in [0, 1].
        block_size: block_size of DropBlock, int >= 1.
        dropblock_skip: whether to apply DropBlock to the shortcut too.
        data_format: `"channels_last"`, `"channels_first"` or None, which
            takes `keras.config.image_data_format()`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: for dropout in a block with a single conv, which has no
            place for it.

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 2 and figure 1. The released code has only B(3,3). For the
        other blocks, the position of the stride is our choice.
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
class PostActivationBlock(ResidualBlock):
    """The original residual block: conv-BN-ReLU, and a ReLU after the sum.

    Kernels (3, 3) give the basic block. Kernels (1, 3, 1) with fewer inner
    channels give the bottleneck. The first 3x3 conv has the stride, as in
    the code of Torch and TensorFlow. (In the paper the first conv has it.)

    The shortcut is the identity if the channels stay the same and the stride
    is 1. Otherwise it is a 1x1 conv with BN. With `projection=False`, it is
    the subsampled input padded with zero channels: the paper's option A,
    which has no parameters.

    DropBlock is applied after every conv-BN(-ReLU) and on the shortcut: these
    are the four places of a bottleneck. The paper's code has no DropBlock in
    basic blocks. Here the same rule applies to them and gives three places.

    Args:
        filters: channels of the last conv, int >= 1.
        kernel_sizes: kernel size of each conv.
        inner_filters: channels of the other convs. None uses `filters`.
        strides: stride of the first 3x3 conv.
        projection: whether a shortcut that changes the shape has parameters.
        zero_init: whether gamma of the last BN starts at 0, so that the block
            initially computes only its shortcut.
        others: see `PreActivationBlock`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.3. The
        places of DropBlock follow `bottleneck_block` of the DropBlock paper's
        code (tensorflow/tpu, models/official/resnet).
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
