"""Layers: DropBlock, and the residual blocks that Wide ResNets are made of."""

from keras_dropblock.layers.dropblock import (
    DropBlock1D,
    DropBlock2D,
    DropBlock3D,
    dropblock_at_inference,
    dropblock_layers,
)
from keras_dropblock.layers.residual import PreActivationBlock

__all__ = [
    "DropBlock1D",
    "DropBlock2D",
    "DropBlock3D",
    "PreActivationBlock",
    "dropblock_at_inference",
    "dropblock_layers",
]
