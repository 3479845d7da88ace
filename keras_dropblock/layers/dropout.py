"""Dropout, SpatialDropout2D and stochastic depth for several replicas.

Under `tf.distribute`, Keras's own layers draw the same mask on every replica,
because the seed generators of all replicas have the same state. The layers
here draw a different mask on each replica, as DropBlock does.
"""

import keras

from keras_dropblock.layers import masks, overrides


@keras.saving.register_keras_serializable("keras_dropblock")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with a different mask on each replica."""

    def call(self, inputs, training=False):
        if not (training or overrides.current(self)) or self.rate == 0:
            return inputs
        shape = keras.ops.shape(inputs)
        if self.noise_shape is not None:
            _check_noise_shape(self.noise_shape, inputs.shape)
            shape = [
                shape[i] if size is None else size
                for i, size in enumerate(self.noise_shape)
            ]
        return masks.drop_alike(inputs, self.rate, shape, self.seed_generator)


@keras.saving.register_keras_serializable("keras_dropblock")
class SpatialDropout2D(keras.layers.SpatialDropout2D):
    """`keras.layers.SpatialDropout2D` with a different mask on each replica."""

    def call(self, inputs, training=False):
        if not (training or overrides.current(self)) or self.rate == 0:
            return inputs
        batch, *rest = keras.ops.shape(inputs)
        if self.data_format == "channels_last":
            shape = (batch, 1, 1, rest[-1])
        else:
            shape = (batch, rest[0], 1, 1)
        return masks.drop_alike(inputs, self.rate, shape, self.seed_generator)


@keras.saving.register_keras_serializable("keras_dropblock")
class StochasticDepth(keras.Layer):
    """Drops a whole residual branch, sample by sample, during training.

    Also known as DropPath. The branches that are kept are divided by
    `survival_prob`, so inference needs no scaling. The paper multiplies at
    inference instead; the expected value is the same.

    Args:
        survival_prob: probability that a sample keeps the branch, in (0, 1].
        seed: int, or None for a random one.

    Call arguments:
        inputs: output of the branch, before it is added to the shortcut.
        training: whether to drop.

    Input shape:
        Any shape whose first axis is the batch.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: for a `survival_prob` outside (0, 1].

    Reference:
        Huang et al. 2016, https://arxiv.org/abs/1603.09382, section 3.
    """

    def __init__(self, survival_prob, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.survival_prob = check_survival_prob(survival_prob)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False):
        if not (training or overrides.current(self)):
            return inputs
        batch = keras.ops.shape(inputs)[0]
        shape = (batch, *[1] * (len(inputs.shape) - 1))
        return masks.drop_alike(
            inputs, 1.0 - self.survival_prob, shape, self.seed_generator
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "survival_prob": self.survival_prob,
            "seed": self.seed,
        }


def survival_probs(survival_prob, blocks):
    """Survival probability of each block, which falls linearly with depth.

    Args:
        survival_prob: survival probability of the last block, in (0, 1].
        blocks: number of residual blocks in the network.

    Returns:
        A list, `1 - l / blocks * (1 - survival_prob)` for l = 1 ... blocks.

    Reference:
        Huang et al. 2016, equation 4.
    """
    check_survival_prob(survival_prob)
    return [
        1.0 - block / blocks * (1.0 - survival_prob)
        for block in range(1, blocks + 1)
    ]


def check_survival_prob(survival_prob):
    if not masks.is_number(survival_prob) or not 0.0 < survival_prob <= 1.0:
        raise ValueError(
            "`survival_prob` must be in (0, 1], the probability that a sample "
            "keeps the branch (not the rate to drop). "
            f"Received: survival_prob={survival_prob!r}."
        )
    return float(survival_prob)


def _check_noise_shape(noise_shape, shape):
    """Raise ValueError for a mask that would broadcast to a larger output."""
    fits = len(noise_shape) <= len(shape) and all(
        noise in (1, size) or None in (noise, size)
        for noise, size in zip(noise_shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            "`noise_shape` must have 1, None or the size of the inputs on each "
            f"axis. Received: noise_shape={noise_shape} for inputs of shape "
            f"{tuple(shape)}."
        )


def check_rate(argument, rate):
    if not masks.is_number(rate) or not 0.0 <= rate <= 1.0:
        raise ValueError(
            f"`{argument}` must be in [0, 1], the fraction of units to drop. "
            f"Received: {argument}={rate!r}."
        )
    return float(rate)
