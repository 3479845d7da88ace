"""Base class of residual blocks: options, convs, norms and regularizers."""

import keras

from keras_dropblock.layers import overrides
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


class ResidualBlock(keras.Layer):
    """Base class of the blocks: options, convs, norms and regularizers.

    A subclass defines which conv has the stride, where DropBlock is applied,
    and the order of the layers.
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
        shortcut_dropout=0.0,
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
        self.shortcut_dropout = check_rate("shortcut_dropout", shortcut_dropout)
        self.survival_prob = check_survival_prob(survival_prob)
        self.keep_prob = check_keep_prob(keep_prob)
        self.block_size = check_block_size(block_size)
        self.dropblock_skip = dropblock_skip
        self.data_format = check_data_format(data_format)
        check_dropout_has_a_place(self.kernel_sizes, dropout, spatial_dropout)
        self._make_convs()
        self._make_regularizers()
        self.shortcut = None  # created in `build`, if the shape changes

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

    def _make_regularizers(self):
        """Create the regularizers. Options that are off create no layers."""
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
            make_dropblock(self, f"dropblock{i}")
            for i in self._dropblock_places()
            if self.keep_prob < 1.0
        ]
        self.dropout_shortcut = None
        if self.shortcut_dropout:
            self.dropout_shortcut = Dropout(
                self.shortcut_dropout, name="dropout_shortcut", **own
            )
        self.dropblock_shortcut = None
        if self.keep_prob < 1.0 and self.dropblock_skip:
            self.dropblock_shortcut = make_dropblock(self, "dropblock_shortcut")
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

    def _changes_shape(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        return channels != self.filters or self.strides != 1

    def _between(self, i, x, training):
        """Apply dropout layers after conv `i` (from 0), except the last."""
        for layers in (self.dropouts, self.spatial_dropouts):
            if layers:
                x = layers[i](x, training=training)
        return x

    def _branches(self, x, skip, training):
        """Apply the regularizers at the end of both branches."""
        if self.dropout_shortcut is not None:
            skip = self.dropout_shortcut(skip, training=training)
        if self.dropblock_shortcut is not None:
            skip = self.dropblock_shortcut(skip, training=training)
        if self.stochastic_depth is not None:
            x = self.stochastic_depth(x, training=training)
        if overrides.current(self):  # see `branches_removed`
            x = keras.ops.zeros_like(x)
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
            "shortcut_dropout": self.shortcut_dropout,
            "survival_prob": self.survival_prob,
            "keep_prob": self.keep_prob,
            "block_size": self.block_size,
            "dropblock_skip": self.dropblock_skip,
            "data_format": self.data_format,
        }


def make_dropblock(block, name):
    """Create a DropBlock layer with the settings of a block."""
    return DropBlock2D(
        keep_prob=block.keep_prob,
        block_size=block.block_size,
        data_format=block.data_format,
        name=name,
        dtype=block.dtype_policy,
    )


def check_dropout_has_a_place(kernel_sizes, dropout, spatial_dropout):
    """Raise ValueError for dropout in a block with a single conv."""
    if (dropout or spatial_dropout) and len(kernel_sizes) == 1:
        raise ValueError(
            "`dropout` and `spatial_dropout` must be 0 in a block with a "
            "single conv: they are applied between the convs of a block, and "
            f"B({kernel_sizes[0]}) has only one. Received: "
            f"dropout={dropout}, spatial_dropout={spatial_dropout}. Use a "
            "block with two convs, such as B(3,3)."
        )
