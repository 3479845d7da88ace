"""Builders: functional Keras models that give logits."""

from keras_dropblock.models import torch_weights
from keras_dropblock.models.cards import published
from keras_dropblock.models.notation import from_notation, from_recipe
from keras_dropblock.models.preact_resnet import PreActResNet
from keras_dropblock.models.pretrained import load
from keras_dropblock.models.resnet import CifarResNet, ResNet
from keras_dropblock.models.wide_resnet import WRN

__all__ = [
    "WRN",
    "CifarResNet",
    "PreActResNet",
    "ResNet",
    "from_notation",
    "from_recipe",
    "load",
    "published",
    "torch_weights",
]
