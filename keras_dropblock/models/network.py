"""The Keras model that builders return, and functions on such models."""

import dataclasses
import functools
import inspect

import keras


class Carded:
    """Base class of models that keep their card when they are saved.

    Attributes:
        card: `hub.Card`, or None if the network is not a trained model.
    """

    card = None

    def get_config(self):
        config = super().get_config()
        if self.card is not None:
            config["card"] = self.card.to_dict()
        return config

    @classmethod
    def from_config(cls, config, **arguments):
        config = dict(config)
        card = config.pop("card", None)
        model = super().from_config(config, **arguments)
        if card is not None:
            model.card = hub().Card.from_dict(card)
        return model


@keras.saving.register_keras_serializable("keras_dropblock")
class Network(Carded, keras.Model):
    """A functional Keras model that keeps its card when it is saved."""


def builder(function):
    """Decorate a builder: the card gets the arguments of the builder.

    Without this, the card of published weights would describe the published
    network, which may differ from the new one in DropBlock or image size.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*args, **kwargs):
        model = function(*args, **kwargs)
        if model.card is not None:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            arguments = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in given.arguments.items()
                if name not in ("weights", "name")
            }
            arguments["input_shape"] = list(image_shape(model))
            model.card = dataclasses.replace(model.card, arguments=arguments)
        return model

    return build


def hub():
    """Import `hub` late: the only import from a higher-level package."""
    from keras_dropblock import hub

    return hub


def copy_weights(source, target, *, but=()):
    """Copy weights between networks, layer by layer.

    Args:
        source, target: models whose layers have the same names.
        but: names of layers that are not copied.
    """
    for layer in source.layers:
        if layer.name not in but:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def data_format(model):
    """The data format of a model: `"channels_last"` or `"channels_first"`."""
    for layer in model._flatten_layers():
        if hasattr(layer, "data_format"):
            return layer.data_format
    return keras.config.image_data_format()


def image_shape(model):
    """(height, width, channels) of a model's images, for any data format."""
    shape = model.inputs[0].shape[1:]
    if data_format(model) == "channels_last":
        return tuple(shape)
    return (*shape[1:], shape[0])
