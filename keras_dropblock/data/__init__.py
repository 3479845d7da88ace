"""Images for training: where they come from and how they are prepared."""

from keras_dropblock.data.batches import Batches
from keras_dropblock.data.errors import DataError
from keras_dropblock.data.images import fit_to_size
from keras_dropblock.data.normalise import Normalise
from keras_dropblock.data.sources import Splits, load

__all__ = [
    "Batches",
    "DataError",
    "Normalise",
    "Splits",
    "fit_to_size",
    "load",
]
