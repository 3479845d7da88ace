"""Data sets of images, their preprocessing, and batches for training."""

from keras_dropblock.data import sources
from keras_dropblock.data.batches import ArrayBatches, Batches
from keras_dropblock.data.dataset import ArrayDataset, Dataset
from keras_dropblock.data.images import fit_to_size
from keras_dropblock.data.options import Options
from keras_dropblock.data.preprocessing import (
    Preprocessing,
    published_statistics,
)
from keras_dropblock.data.sources import load
from keras_dropblock.errors import DataError

__all__ = [
    "ArrayBatches",
    "ArrayDataset",
    "Batches",
    "DataError",
    "Dataset",
    "Options",
    "Preprocessing",
    "fit_to_size",
    "load",
    "published_statistics",
    "sources",
]
