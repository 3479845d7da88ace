"""Builders of functional Keras models, which return logits."""

from keras_dropblock.models import notation, torch_networks, torch_weights
from keras_dropblock.models.features import FeaturePyramid, features
from keras_dropblock.models.groups import in_data_format
from keras_dropblock.models.highway import HighwayNet
from keras_dropblock.models.insertion import insert_dropblock, insert_layer
from keras_dropblock.models.network import (
    Network,
    copy_weights,
    data_format,
    image_shape,
)
from keras_dropblock.models.notation import BUILDERS, from_notation
from keras_dropblock.models.places import last_stages
from keras_dropblock.models.preact_resnet import PreActResNet
from keras_dropblock.models.resnet import CifarResNet, ResNet
from keras_dropblock.models.wide_resnet import WRN

__all__ = [
    "BUILDERS",
    "WRN",
    "CifarResNet",
    "FeaturePyramid",
    "HighwayNet",
    "Network",
    "PreActResNet",
    "ResNet",
    "copy_weights",
    "data_format",
    "features",
    "from_notation",
    "image_shape",
    "in_data_format",
    "insert_dropblock",
    "insert_layer",
    "last_stages",
    "notation",
    "torch_networks",
    "torch_weights",
]
