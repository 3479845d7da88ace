"""Images for training: where they come from and how they are prepared."""

from keras_dropblock.data.batches import Batches
from keras_dropblock.data.normalise import Normalise
from keras_dropblock.data.sources import DataError, Splits, load

__all__ = ["Batches", "DataError", "Normalise", "Splits", "load"]
