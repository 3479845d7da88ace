"""Read and change the outputs of inner layers while a model is called.

A model that is called without compiling runs the `call` of each layer. These
functions replace that method for a while. This works for nested and
subclassed models and for layers inside of layers, whose outputs Keras cannot
use to build a new model.
"""

import contextlib

import keras
import numpy as np

from keras_dropblock import models


@contextlib.contextmanager
def replaced(layer, name, value):
    """A context in which an attribute or method of a layer has a new value."""
    before = vars(layer).get(name)
    setattr(layer, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(layer, name)  # the method of the class appears again
        else:
            setattr(layer, name, before)


@contextlib.contextmanager
def intercepted(layers, function):
    """A context in which a function sees and replaces outputs of layers.

    It works for models that are called directly, `model(x)`. Compiled
    functions (`predict`, `tf.function`, `jax.jit`) ignore it.

    Args:
        layers: the layers.
        function: function from (layer, output) to the output that the other
            layers get.
    """

    def replacement(layer, call):
        def intercept(*args, **kwargs):
            return function(layer, call(*args, **kwargs))

        return intercept

    with contextlib.ExitStack() as stack:
        for layer in layers:
            call = replacement(layer, layer.call)
            stack.enter_context(replaced(layer, "call", call))
        yield


def find_layer(model, layer):
    """Find a layer of a model, also within nested models and layers.

    Args:
        model: `keras.Model`.
        layer: a name, or the layer itself.

    Raises:
        ValueError: if the model does not contain the layer, or several layers
            have that name.
    """
    layers = model._flatten_layers(include_self=False)
    if not isinstance(layer, str):
        if all(layer is not other for other in layers):
            raise ValueError(
                "`layer` must be a layer of the model, or its name. Received: "
                f"layer={layer!r}, which {model.name} does not contain."
            )
        return layer
    found = [other for other in layers if other.name == layer]
    if len(found) != 1:
        raise ValueError(
            "`layer` must name exactly one layer of the model. Received: "
            f"layer={layer!r}, which {len(found)} layers of {model.name} have. "
            "Pass the layer object instead of its name, or use "
            "`model.summary(expand_nested=True)` to see the names."
        )
    return found[0]


def order_of_calls(model, images):
    """Call a model, and list its layers in the order in which they end.

    Args:
        model: `keras.Model`.
        images: one image or more, as the model takes them.

    Returns:
        A list of (layer, shape of its output). The shape is () if the output
        is not one tensor.
    """
    calls = []

    def look(layer, output):
        calls.append((layer, tuple(getattr(output, "shape", ()))))
        return output

    with intercepted(model._flatten_layers(include_self=False), look):
        model(images, training=False)
    return calls


def last_feature_map(model, calls):
    """The layer with the last feature map: the last output with 4 axes.

    Maps of a single position, such as a pooled map that kept its axes, do not
    count.

    Args:
        model: `keras.Model` of images.
        calls: result of `order_of_calls`.

    Raises:
        ValueError: if no layer has such an output.
    """
    first = models.data_format(model) == "channels_first"
    spatial = slice(2, 4) if first else slice(1, 3)
    for layer, shape in reversed(calls):
        if len(shape) == 4 and max(shape[spatial]) > 1:
            return layer
    raise ValueError(
        "`model` must have a layer whose output is a feature map with 4 axes. "
        f"Received: {model.name}, which has none."
    )


def read_feature_maps(model, images, layers, *, batch_size=128):
    """Outputs of inner layers, channels last.

    Args:
        model: `keras.Model`.
        images: array of images, as the model takes them.
        layers: names of layers, or the layers themselves: see `find_layer`.
        batch_size: images in one call of the model.

    Returns:
        A list with one float32 array (images, height, width, channels) for
        each of the layers. If a layer is called several times, its last
        output counts.
    """
    found = [find_layer(model, layer) for layer in layers]
    parts = {layer: [] for layer in found}
    for start in range(0, len(images), batch_size):
        kept = {}

        def keep(layer, output, kept=kept):
            kept[layer] = output
            return output

        with intercepted(found, keep):
            model(images[start : start + batch_size], training=False)
        for layer in found:
            output = keras.ops.cast(kept[layer], "float32")
            parts[layer].append(keras.ops.convert_to_numpy(output))
    first = models.data_format(model) == "channels_first"
    maps = [np.concatenate(parts[layer]) for layer in found]
    return [np.moveaxis(x, 1, -1) if first else x for x in maps]
