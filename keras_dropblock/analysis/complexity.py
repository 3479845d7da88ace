"""Size of networks: parameters and multiply-adds."""

import math

import keras

from keras_dropblock.models import from_notation, in_data_format


def multiply_adds(model):
    """Number of multiply-adds of a forward pass for one image.

    As in the papers, only convs and dense layers are counted. A training step
    costs about three times as much. One multiply-add is two floating-point
    operations.

    Args:
        model: a model of this package's builders with a known image size.
    """
    total = 0
    for layer, input_shape in _with_kernels(model):
        # Each output element is a dot product with one column of the kernel.
        elements = math.prod(layer.compute_output_shape(input_shape)[1:])
        total += elements * math.prod(layer.kernel.shape[:-1])
    return total


def _with_kernels(model):
    """Yield (layer, input shape) of all convs and dense layers."""
    for layer in model.layers[1:]:  # without the input layer
        shape = layer.input.shape
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            yield layer, shape
        for conv in getattr(layer, "convs", ()):
            yield conv, shape
            shape = conv.compute_output_shape(shape)
        for name in ("shortcut", "gate"):  # they read the block's input
            if getattr(layer, name, None) is not None:
                yield getattr(layer, name), layer.input.shape


def parameters(model):
    """Number of trainable parameters."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def petaflop(multiply_adds, images):
    """Floating-point operations of a training run, in units of 10^15.

    A multiply-add is two operations, and a backward pass costs twice as much
    as a forward pass.

    Args:
        multiply_adds: of a forward pass for one image: see `multiply_adds`.
        images: number of images in all epochs together.
    """
    return 3 * 2 * multiply_adds * images / 1e15


def size(notation, image_shape, num_classes):
    """(trainable parameters, multiply-adds) of a network.

    Args:
        notation: name of the network: see `models.from_notation`.
        image_shape: (height, width, channels).
        num_classes: number of logits.
    """
    model = from_notation(
        notation,
        input_shape=in_data_format(image_shape),
        num_classes=num_classes,
    )
    return parameters(model), multiply_adds(model)
