"""The graph of a functional Keras model: its layers, strides and trunk."""

import typing

import keras

# Two sides of a square image, in pixels. The difference is divisible by all
# usual strides, so it gives the stride whatever the padding of the layers is.
_SIDES = 1024, 2048


class Call(typing.NamedTuple):
    """One call of a layer in a functional model.

    Attributes:
        layer: the layer, or the operation of `keras.ops`.
        path: names of the models around it and its own, `backbone/conv1`.
        inputs: positions of the calls whose outputs it reads. An input of the
            model has the position -1.
        shape: shape of its output, or None if it has several outputs.
    """

    layer: typing.Any
    path: str
    inputs: tuple
    shape: tuple | None


def inner(layer):
    """The functional model of a model; None for any other layer."""
    if isinstance(layer, keras.Sequential):
        return layer._functional
    return layer if hasattr(layer, "_run_through_graph") else None


def functional(model):
    """The functional model of a functional or built Sequential model.

    Raises:
        TypeError: for anything else.
    """
    found = inner(model)
    if not isinstance(model, keras.Model) or found is None:
        built = " that is not built" if isinstance(model, keras.Model) else ""
        raise TypeError(
            "`model` must be a functional Keras model, or a Sequential model "
            f"with an Input. Received: {type(model).__name__}{built}."
        )
    return found


def calls(model, shapes=None):
    """The calls of the layers of a model, in the order of execution.

    A model inside the model counts as one call, after those of its layers.
    Only shapes are computed.

    Args:
        model: a functional or Sequential Keras model.
        shapes: a shape for each input, or None for the model's own shapes.

    Returns:
        List of `Call`.
    """
    # Keras's `compute_output_spec` rejects image sizes that differ from the
    # input's. The method that it calls accepts them.
    found, kept, position = [], [], {}

    def spec(layer, prefix=""):
        def run(*args, **kwargs):
            path = prefix + layer.name
            read = _tensors((args, kwargs))
            inside = inner(layer)
            if inside is None:
                outputs = layer.compute_output_spec(*args, **kwargs)
            else:
                outputs = inside._run_through_graph(
                    args[0], operation_fn=lambda x: spec(x, path + "/")
                )
                read = _tensors(outputs)
            made = _tensors(outputs)
            inputs = tuple(position.get(id(x), -1) for x in read)
            shape = tuple(made[0].shape) if len(made) == 1 else None
            kept.extend(made)  # an `id` is unique only while the object exists
            position.update({id(x): len(found) for x in made})
            found.append(Call(layer, path, inputs, shape))
            return outputs

        return run

    model = inner(model)
    inputs = [
        keras.KerasTensor(x.shape if shapes is None else shape, x.dtype)
        for x, shape in zip(
            model.inputs, shapes or [None] * len(model.inputs), strict=True
        )
    ]
    kept.extend(inputs)
    model._run_through_graph(inputs, operation_fn=spec)
    return found


def strides(model, data_format):
    """The stride of each feature map, in pixels of the image.

    Args:
        model: a model with one input, an image.
        data_format: the data format of that image.

    Returns:
        List with one item for each of `calls(model)`: an int; a pair (height,
        width) if they differ; None if the output is not a feature map or does
        not depend on the size of the image.
    """
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    shape = list(model.inputs[0].shape)
    each = []
    for side in _SIDES:
        for axis in axes:
            shape[axis] = side
        each.append(calls(model, [tuple(shape)]))
    return [
        _stride(small.shape, large.shape, axes)
        for small, large in zip(*each, strict=True)
    ]


def trunk(found):
    """Positions of the calls that every path through the network passes.

    The end of a residual block is on the trunk. Its convs are not.

    Args:
        found: result of `calls`.
    """
    last_use = {}
    for i, call in enumerate(found):
        last_use |= dict.fromkeys(call.inputs, i)
    positions, open_until = [], last_use.get(-1, 0)
    for i in range(len(found)):
        if open_until <= i:
            positions.append(i)
        open_until = max(open_until, last_use.get(i, 0))
    return positions


def output(model, layer):
    """The symbolic output of a layer's last call in a functional model.

    `layer.output` is that of its first call, maybe in another model.
    """
    by_depth = sorted(model._nodes_by_depth.items())  # from the output on
    here = [node for _, nodes in by_depth for node in nodes]
    node = next(node for node in here if node.operation is layer)
    return node.outputs[0]


def _tensors(structure):
    return [
        x
        for x in keras.tree.flatten(structure)
        if isinstance(x, keras.KerasTensor)
    ]


def _stride(small, large, axes):
    if small is None or len(small) != 4:
        return None
    height, width = (large[axis] - small[axis] for axis in axes)
    if not height or not width:
        return None
    more = _SIDES[1] - _SIDES[0]
    height, width = round(more / height), round(more / width)
    return height if height == width else (height, width)
