"""DropBlock layers for one, two and three spatial dimensions."""

import sys

import keras

from keras_dropblock.layers import masks, overrides


class DropBlock(keras.Layer):
    """What the layers of all ranks share; `rank` counts spatial axes."""

    rank = None

    def __init__(
        self,
        keep_prob,
        block_size,
        *,
        per_channel=True,
        scale_per_sample=False,
        data_format=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.final_keep_prob = check_keep_prob(keep_prob)
        self.block_size = check_block_size(block_size)
        self.per_channel = bool(per_channel)
        self.scale_per_sample = bool(scale_per_sample)
        self.data_format = check_data_format(data_format)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # A variable, because compiled steps bake Python numbers in; float32
        # and never autocast, because float16 cannot hold 0.9 well enough.
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
        """The keep_prob in force now, a float; assign to change it.

        It starts at the constructor's value, `final_keep_prob`, and is what
        `KeepProbScheduler` moves. An assignment reaches steps that are
        already compiled. It is a state of training, not a weight: `.keras` and
        weights files hold none, so those of a network with and without
        DropBlock are interchangeable. `copy.deepcopy` and `pickle` keep it.
        """
        # The shortest decimal that is this float32: 0.9, not 0.89999998.
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
        """Store nothing, but in pickles and copies: see `keep_prob`."""
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

    Neighbouring units of a convolutional feature map carry much the same
    information, so dropping single units, as Dropout does, takes little away.
    DropBlock drops whole squares. With `block_size=1` it is Dropout, with a
    block as large as the map SpatialDropout.

    Each sample and each channel has its own mask. Blocks lie wholly inside
    the map; on an axis that is smaller than `block_size` they are clamped to
    it. The units that stay are scaled so that their number times the scale
    is the size of the tensor. About `1 - keep_prob` of the units vanish,
    slightly fewer because blocks may overlap: see `masks.seed_rate`.

    The layer is active when called with `training=True` alone. Otherwise it
    returns its input and draws no random number, so an exported graph holds
    no random operation. To leave it on at inference, as in the paper's
    robustness experiment, see `dropblock_at_inference`.

    The scale is one number for the whole tensor, hence under
    `tf.distribute` one for each replica, as in the paper's code: a sample's
    output depends a little on the rest of its batch.
    `scale_per_sample=True` removes that dependence, which is a deviation
    from the paper.

    Further deviations: the paper treats square maps with odd blocks; here
    each axis is clamped by itself and even blocks are allowed. When every
    unit is dropped the result is zeros, not NaN.

    Args:
        keep_prob: fraction of units to keep, in [0, 1]. With a
            `KeepProbScheduler`, the value at the end of training. The paper
            uses 0.75 to 0.95, and 0.9 for its best ImageNet result.
        block_size: side of a dropped block in units of the feature map,
            int >= 1. The paper's best is 7.
        per_channel: whether each channel has its own mask (the paper's
            choice) or all channels of a sample share one.
        scale_per_sample: whether the kept units are counted in each sample
            or in the whole tensor (the paper's choice).
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

    `DropBlock2D` with one spatial axis: all that is said there holds here.

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

    `DropBlock2D` with three spatial axes: all that is said there holds here.

    Input shape:
        `(batch, depth, height, width, channels)` with `"channels_last"`.

    Output shape:
        The shape of the input.

    Example:
        >>> layer = DropBlock3D(keep_prob=0.9, block_size=3)
        >>> y = layer(keras.ops.ones((2, 8, 16, 16, 4)), training=True)
    """

    rank = 3


def _is_being_pickled():
    """Whether a layer or model is copied or pickled, not saved to a file.

    Keras does both in the same way, and tells its layers no difference. Only
    the call stack does: copying and pickling go through `__reduce__`.
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
