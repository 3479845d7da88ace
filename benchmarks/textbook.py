"""DropBlock as in the paper's algorithm and in most implementations.

For comparison with this package's layer.
"""

import keras
import numpy as np
from keras import ops


class DropBlock2D(keras.layers.Layer):
    """Draws a number for each unit and applies a max-pool.

    Args:
        keep_prob: fraction of units to keep, in (0, 1].
        block_size: side of a block, in pixels of the feature map.
    """

    def __init__(self, keep_prob, block_size):
        super().__init__()
        self.keep_prob = keep_prob
        self.block_size = block_size
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs, training=False):
        _, height, width, _ = inputs.shape
        block = min(self.block_size, height, width)
        rows, columns = height - block + 1, width - block + 1
        gamma = (1 - self.keep_prob) * height * width
        gamma /= block**2 * rows * columns
        valid = np.zeros((1, height, width, 1), "float32")
        first = block // 2
        valid[:, first : first + rows, first : first + columns] = 1
        draws = keras.random.uniform(
            ops.shape(inputs), seed=self.seed_generator
        )
        mask = 1 - ops.cast(draws < gamma, "float32") * valid
        mask = -ops.max_pool(-mask, block, strides=1, padding="same")
        kept = ops.mean(mask)
        return inputs * ops.cast(mask / kept, inputs.dtype)
