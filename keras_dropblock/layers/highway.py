"""The block of highway networks, as a layer."""

import keras

from keras_dropblock.layers import overrides
from keras_dropblock.layers.block import make_dropblock
from keras_dropblock.layers.convolution import SymmetricConv2D
from keras_dropblock.layers.dropblock import (
    check_block_size,
    check_data_format,
    check_keep_prob,
)
from keras_dropblock.layers.dropout import StochasticDepth, check_survival_prob


@keras.saving.register_keras_serializable("keras_dropblock")
class HighwayBlock(keras.Layer):
    """A highway block: y = T(x) F(x) + (1 - T(x)) x.

    F is a 3x3 conv with bias and ReLU. T, the transform gate, is a 3x3 conv
    with bias and sigmoid, one number for each unit. A gate of 0 copies the
    input. The bias of T starts negative, so that a deep network starts close
    to the identity and can be trained. There is no batch normalization, as
    in the paper.

    If the number of channels or the stride changes the shape, the input
    cannot be copied. The block is then a plain layer, y = F(x), as in the
    paper.

    DropBlock is applied to F(x) and, with a mask of its own, to the x that is
    carried. Stochastic depth drops T(x) (F(x) - x), so a dropped block copies
    its input. It does not apply to plain layers. The paper has neither.

    Args:
        filters: channels of the output, int >= 1.
        strides: stride of both convs.
        gate_bias: initial bias of the transform gate. The paper suggests
            -1, -3 and so on, lower for deeper networks.
        survival_prob: survival probability under stochastic depth, in (0, 1].
        keep_prob: keep_prob of DropBlock, in [0, 1].
        block_size: block_size of DropBlock, int >= 1.
        dropblock_skip: whether to apply DropBlock to the carried x too.
        data_format: `"channels_last"`, `"channels_first"` or None, which
            takes `keras.config.image_data_format()`.

    Attributes:
        gate: the conv of the transform gate; None in a plain layer.
        shortcut: None, because no conv is applied to the carried input.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        Srivastava, Greff and Schmidhuber 2015,
        https://arxiv.org/abs/1505.00387, sections 2 and 2.2.
    """

    shortcut = None

    def __init__(
        self,
        filters,
        *,
        strides=1,
        gate_bias=-2.0,
        survival_prob=1.0,
        keep_prob=1.0,
        block_size=7,
        dropblock_skip=True,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.gate_bias = gate_bias
        self.survival_prob = check_survival_prob(survival_prob)
        self.keep_prob = check_keep_prob(keep_prob)
        self.block_size = check_block_size(block_size)
        self.dropblock_skip = dropblock_skip
        self.data_format = check_data_format(data_format)
        self.convs = [self._conv("conv1", 0.0)]
        self.dropblock = self.dropblock_shortcut = None
        if self.keep_prob < 1.0:
            self.dropblock = make_dropblock(self, "dropblock1")
        # Created in `build`, unless the block is a plain layer.
        self.gate = self.stochastic_depth = None

    def _conv(self, name, bias):
        return biased_conv(
            self.filters,
            self.strides,
            bias=bias,
            data_format=self.data_format,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        self.convs[0].build(input_shape)
        if input_shape[axis] == self.filters and self.strides == 1:
            self.gate = self._conv("gate", self.gate_bias)
            self.gate.build(input_shape)
            if self.dropblock is not None and self.dropblock_skip:
                self.dropblock_shortcut = make_dropblock(
                    self, "dropblock_shortcut"
                )
            if self.survival_prob < 1.0:
                self.stochastic_depth = StochasticDepth(
                    self.survival_prob,
                    name="stochastic_depth",
                    dtype=self.dtype_policy,
                )
        self.built = True

    def call(self, inputs, training=False):
        x = keras.ops.relu(self.convs[0](inputs))
        if self.dropblock is not None:
            x = self.dropblock(x, training=training)
        if self.gate is None:
            return x
        skip = inputs
        if self.dropblock_shortcut is not None:
            skip = self.dropblock_shortcut(skip, training=training)
        branch = self.transform_gate(inputs) * (x - skip)
        if self.stochastic_depth is not None:
            branch = self.stochastic_depth(branch, training=training)
        if overrides.current(self):  # see `branches_removed`
            branch = keras.ops.zeros_like(branch)
        return skip + branch

    def transform_gate(self, inputs):
        """T(x): numbers in [0, 1], with the shape of the output."""
        return keras.ops.sigmoid(self.gate(inputs))

    def compute_output_shape(self, input_shape):
        return self.convs[0].compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "gate_bias": self.gate_bias,
            "survival_prob": self.survival_prob,
            "keep_prob": self.keep_prob,
            "block_size": self.block_size,
            "dropblock_skip": self.dropblock_skip,
            "data_format": self.data_format,
        }


def biased_conv(filters, strides=1, *, bias=0.0, **kwargs):
    """Create a 3x3 conv with bias and untruncated He initialization."""
    return SymmetricConv2D(
        filters,
        3,
        strides,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, mode="fan_in", distribution="untruncated_normal"
        ),
        bias_initializer=keras.initializers.Constant(bias),
        **kwargs,
    )
