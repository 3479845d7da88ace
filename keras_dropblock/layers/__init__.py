"""DropBlock and dropout layers, and the residual blocks of the networks."""

from keras_dropblock.layers.dropblock import (
    DropBlock1D,
    DropBlock2D,
    DropBlock3D,
)
from keras_dropblock.layers.dropout import (
    Dropout,
    SpatialDropout2D,
    StochasticDepth,
)
from keras_dropblock.layers.highway import HighwayBlock
from keras_dropblock.layers.inference import (
    branches_removed,
    dropblock_at_inference,
    dropblock_layers,
    dropping_as_trained,
    residual_blocks,
)
from keras_dropblock.layers.residual import (
    PostActivationBlock,
    PreActivationBlock,
)

__all__ = [
    "DropBlock1D",
    "DropBlock2D",
    "DropBlock3D",
    "Dropout",
    "HighwayBlock",
    "PostActivationBlock",
    "PreActivationBlock",
    "SpatialDropout2D",
    "StochasticDepth",
    "branches_removed",
    "dropblock_at_inference",
    "dropblock_layers",
    "dropping_as_trained",
    "residual_blocks",
]
