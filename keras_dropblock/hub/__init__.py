"""Trained models: cards, the registry, loading and prediction."""

from keras_dropblock.hub.card import Card
from keras_dropblock.hub.loader import load
from keras_dropblock.hub.networks import load_weights, with_new_head
from keras_dropblock.hub.prediction import predict
from keras_dropblock.hub.registry import list_models
from keras_dropblock.hub.upload import upload

__all__ = [
    "Card",
    "list_models",
    "load",
    "load_weights",
    "predict",
    "upload",
    "with_new_head",
]
