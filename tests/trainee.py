"""A process for `test_soak.py` to kill: trains, backing up every step."""

import sys

import keras

from keras_dropblock import fitting
from keras_dropblock.recipes import Recipe

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()

fitting.fit(
    Recipe.from_toml(sys.argv[1]), sys.argv[2], verbose=0, backup_minutes=0
)
