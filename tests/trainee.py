"""A process that `test_soak.py` kills. It saves a checkpoint every step."""

import sys

import keras

from keras_dropblock.training import trainer
from keras_dropblock.training.recipe import Recipe

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()

trainer.fit(
    Recipe.from_toml(sys.argv[1]), sys.argv[2], verbose=0, checkpoint_minutes=0
)
