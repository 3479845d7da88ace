"""DropBlock layers for one, two and three spatial dimensions."""

import sys

import keras

from keras_dropblock.layers import masks, overrides


class DropBlock(keras.Layer):
    """Base class of DropBlock1D, 2D and 3D.

    Attributes:
        rank: number of spatial axes, set by each subclass.
    """

    rank = None

    def __init__(
        self,
        *positional,
        keep_prob=None,
        block_size=None,
        per_channel=True,
        scale_per_sample=False,
        data_format=None,
        seed=None,
        **kwargs,
    ):
        if positional:
            raise TypeError(_positional_error(type(self).__name__, positional))
        super().__init__(**kwargs)
        self.final_keep_prob = check_keep_prob(keep_prob)
        self.block_size = check_block_size(block_size)
        self.per_channel = bool(per_channel)
        self.scale_per_sample = bool(scale_per_sample)
        self.data_format = check_data_format(data_format)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # A variable, because a compiled step treats a Python number as a
        # constant. It stays float32 (no autocast), because float16 cannot
        # represent 0.9 precisely enough.
        self._keep_prob = self.add_weight(
            name="keep_prob",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(self.final_keep_prob),
            trainable=False,
            autocast=False,
        )
        self.supports_masking = True

    @property
    def keep_prob(self):
        """The current keep_prob, a float; assign to change it.

        It starts at `final_keep_prob`, the value given to the constructor.
        `KeepProbScheduler` changes it during training. An assignment also
        takes effect in training steps that are already compiled.

        It is training state, not a weight: it is not saved in `.keras` and
        weights files, so weights files are the same with and without
        DropBlock. `copy.deepcopy` and `pickle` do keep it.
        """
        # The shortest decimal of this float32: 0.9, not 0.89999998.
        return float(str(keras.ops.convert_to_numpy(self._keep_prob)))

    @keep_prob.setter
    def keep_prob(self, value):
        self._keep_prob.assign(check_keep_prob(value))

    def build(self, input_shape):
        if len(input_shape) != self.rank + 2:
            raise ValueError(
                f"`inputs` of {type(self).__name__} must have {self.rank + 2} "
                f"axes: batch, channels and {self.rank} spatial. Received: "
                f"shape={tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs, training=False):
        if training:
            keep_prob = self._keep_prob.value
            block_size = self.block_size
        elif overrides.current(self):
            keep_prob, block_size = overrides.current(self)
        else:
            return inputs
        axes = list(range(1, self.rank + 2))
        last = self.data_format == "channels_last"
        channel_axis = axes[-1] if last else axes[0]
        dropped = masks.dropped_units(
            keras.ops.shape(inputs),
            spatial_axes=[axis for axis in axes if axis != channel_axis],
            keep_prob=keep_prob,
            block_size=block_size,
            seed_generator=self.seed_generator,
            shared_axis=None if self.per_channel else channel_axis,
        )
        return masks.drop_and_rescale(
            inputs, dropped, axes if self.scale_per_sample else None
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def save_own_variables(self, store):
        """Store keep_prob in pickles and copies only: see `keep_prob`."""
        if _is_being_pickled():
            store["keep_prob"] = self._keep_prob

    def load_own_variables(self, store):
        if "keep_prob" in store:
            self._keep_prob.assign(store["keep_prob"])

    def get_config(self):
        return {
            **super().get_config(),
            "keep_prob": self.final_keep_prob,
            "block_size": self.block_size,
            "per_channel": self.per_channel,
            "scale_per_sample": self.scale_per_sample,
            "data_format": self.data_format,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("keras_dropblock")
class DropBlock2D(DropBlock):
    """Drops contiguous squares of a feature map during training.

    Neighboring units of a convolutional feature map carry similar
    information, so dropping single units, as Dropout does, removes little of
    it. DropBlock drops whole squares. With `block_size=1` it is the same as
    Dropout. With a block as large as the map it is the same as
    SpatialDropout.

    Each channel of each sample has its own mask. Blocks lie entirely inside
    the map. On an axis that is shorter than `block_size`, the block is
    clamped to the length of the axis. The kept units are multiplied by
    (number of units) / (number of kept units). About `1 - keep_prob` of the
    units are dropped, slightly fewer because blocks may overlap: see
    `masks.seed_rate`.

    The layer is active only when it is called with `training=True`.
    Otherwise it returns its input and draws no random numbers, so an exported
    graph contains no random operations. To leave it on at inference, as in
    the paper's robustness experiment, see `dropblock_at_inference`.

    The scale is one number for the whole tensor, as in the paper's code
    (under `tf.distribute`, one number for each replica). The output of a
    sample therefore depends slightly on the other samples of its batch.
    `scale_per_sample=True` removes this dependence, which is a deviation
    from the paper.

    Further deviations: the paper uses square maps and odd blocks. Here the
    map may be a rectangle, each axis is clamped separately, and the block
    size may be even. When every unit is dropped, the result is zeros, not
    NaN.

    Args:
        keep_prob: fraction of units to keep, in [0, 1]. With a
            `KeepProbScheduler`, this is the value at the end of training.
            The paper uses 0.75 to 0.95, and 0.9 for its best ImageNet result.
        block_size: side of a dropped block in units of the feature map,
            int >= 1. The paper's best is 7.
        per_channel: whether each channel has its own mask (the paper's
            choice) or all channels of a sample share one.
        scale_per_sample: whether each sample has its own scale, or the whole
            tensor has one (the paper's choice).
        data_format: `"channels_last"`, `"channels_first"` or None, which
            takes `keras.config.image_data_format()`.
        seed: int, or None for a random one. The same seed gives the same
            sequence of masks.

    Call arguments:
        inputs: a feature map.
        training: whether to drop.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`. Any size may
        be None.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: for an argument out of its range, or inputs of another
            rank.

    Example:
        >>> layer = DropBlock2D(keep_prob=0.9, block_size=7)
        >>> y = layer(keras.ops.ones((8, 28, 28, 16)), training=True)

    Reference:
        Ghiasi, Lin and Le 2018, "DropBlock: A regularization method for
        convolutional networks", https://arxiv.org/abs/1810.12890.
    """

    rank = 2


@keras.saving.register_keras_serializable("keras_dropblock")
class DropBlock1D(DropBlock):
    """Drops contiguous runs of a sequence of features during training.

    This is `DropBlock2D` with one spatial axis. See there for the arguments.

    Input shape:
        `(batch, steps, channels)` with `"channels_last"`.

    Output shape:
        The shape of the input.

    Example:
        >>> layer = DropBlock1D(keep_prob=0.9, block_size=7)
        >>> y = layer(keras.ops.ones((8, 64, 16)), training=True)
    """

    rank = 1


@keras.saving.register_keras_serializable("keras_dropblock")
class DropBlock3D(DropBlock):
    """Drops contiguous cubes of a volume of features during training.

    This is `DropBlock2D` with three spatial axes. See there for the
    arguments.

    Input shape:
        `(batch, depth, height, width, channels)` with `"channels_last"`.

    Output shape:
        The shape of the input.

    Example:
        >>> layer = DropBlock3D(keep_prob=0.9, block_size=3)
        >>> y = layer(keras.ops.ones((2, 8, 16, 16, 4)), training=True)
    """

    rank = 3


def _positional_error(name, values):
    """The error for positional arguments, which were likely a drop rate."""
    given = ", ".join(map(repr, values))
    rate, *sizes = values
    hint = ""
    if masks.is_number(rate) and 0 <= rate <= 1:
        size = f"block_size={sizes[0]!r}" if sizes else "block_size=..."
        hint = (
            f" Did you mean {name}(keep_prob={round(1 - rate, 10):g}, {size})?"
        )
    return (
        f"`{name}` takes keyword arguments only. `keep_prob` is the fraction "
        "of units to keep; other libraries take the rate to drop, which is 1 - "
        f"keep_prob. Received: {name}({given}).{hint}"
    )


def _is_being_pickled():
    """Whether Keras is copying or pickling a model, not saving it to a file.

    Keras calls the same methods of a layer in both cases. Only the call stack
    shows the difference: copying and pickling go through `__reduce__`.
    """
    frame = sys._getframe()
    while frame and frame.f_code is not keras.Layer.__reduce__.__code__:
        frame = frame.f_back
    return frame is not None


def check_keep_prob(keep_prob):
    if not masks.is_number(keep_prob) or not 0.0 <= keep_prob <= 1.0:
        raise ValueError(
            "`keep_prob` must be a number in [0, 1], the fraction of units to "
            f"keep (not the rate to drop). Received: keep_prob={keep_prob!r}."
        )
    return float(keep_prob)


def check_block_size(block_size):
    if not masks.is_positive_int(block_size):
        raise ValueError(
            "`block_size` must be an integer >= 1, the side of a dropped block "
            "in units of the feature map. "
            f"Received: block_size={block_size!r}."
        )
    return int(block_size)


def check_data_format(data_format):
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "`data_format` must be 'channels_last', 'channels_first' or None. "
            f"Received: data_format={data_format!r}."
        )
    return data_format
