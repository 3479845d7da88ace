"""Builders: functional Keras models that give logits."""

from keras_dropblock.models.notation import from_notation
from keras_dropblock.models.wide_resnet import WRN

__all__ = ["WRN", "from_notation"]
