"""Images for training: where they come from and how they are prepared."""

from keras_dropblock.data.batches import ArrayBatches
from keras_dropblock.data.errors import DataError
from keras_dropblock.data.images import fit_to_size
from keras_dropblock.data.normalise import Normalise
from keras_dropblock.data.photographs import stream
from keras_dropblock.data.sources import load

__all__ = [
    "ArrayBatches",
    "DataError",
    "Normalise",
    "fit_to_size",
    "load",
    "stream",
]
