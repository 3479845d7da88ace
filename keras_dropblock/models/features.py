"""Feature pyramids: a model with one output for each chosen level."""

import difflib

import keras

from keras_dropblock.layers import masks
from keras_dropblock.models import graph
from keras_dropblock.models.network import data_format


@keras.saving.register_keras_serializable("keras_dropblock")
class FeaturePyramid(keras.Model):
    """A functional model whose output is a dict from level to feature map."""

    @property
    def strides(self):
        """Dict from level to stride, in pixels of the image.

        A stride is an int, or a pair (height, width) if the two differ.
        """
        found = graph.calls(self)
        stride = dict(
            zip(
                (id(call.layer) for call in found),
                graph.strides(self, data_format(self)),
                strict=True,
            )
        )
        return {
            level: stride[id(tensor._keras_history.operation)]
            for level, tensor in self.output.items()
        }


def features(model, levels):
    """Build a model that returns feature maps of several resolutions.

    Use it for a head of your own, such as a detector. The layers, and so the
    weights, are shared with `model`.

    Args:
        model: a functional Keras model with one input, an image.
        levels: the levels, in any order. Each is the name of a layer, such as
            `"group2"`, or a stride in pixels, such as 16. A stride selects a
            layer that all paths through the network pass: the last one with
            this stride. In the networks of this package, this is the last
            group with this stride.

    Returns:
        A `FeaturePyramid`: its output is a dict from the name of the layer,
        or `"stride16"`, to a feature map. Its attribute `strides` is a dict
        from the same keys to the strides. It can be saved and loaded.

    Raises:
        ValueError: if there is no such layer or stride, or if the output of
            the layer is not a feature map.
        TypeError: if `model` is not functional, or a level is neither a
            string nor an int.

    Example:
        >>> model = keras_dropblock.models.ResNet(50)
        >>> pyramid = features(model, ("group2", "group3", "group4"))
        >>> pyramid.strides
        {'group2': 8, 'group3': 16, 'group4': 32}
    """
    _check(model, levels)
    found = graph.calls(model)
    strides = graph.strides(model, data_format(model))
    return FeaturePyramid(
        model.inputs[0],
        {
            level if isinstance(level, str) else f"stride{level}": graph.output(
                graph.functional(model), _layer(found, strides, level)
            )
            for level in levels
        },
        name=f"{model.name}_features",
    )


def _check(model, levels):
    graph.functional(model)  # or an error
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(x.shape) for x in model.inputs]
        raise ValueError(
            "`model` must have one input, a batch of images with 4 axes. "
            f"Received: inputs of the shapes {shapes}."
        )
    if isinstance(levels, str) or not all(
        isinstance(level, str) or masks.is_positive_int(level)
        for level in levels
    ):
        raise TypeError(
            "`levels` must be a list of names of layers or of strides, such as "
            f"('group2', 16). Received: levels={levels!r}."
        )
    if not levels:
        raise ValueError("`levels` must name at least one level.")


def _layer(found, strides, level):
    """The layer whose output is a level."""
    here = [i for i, call in enumerate(found) if "/" not in call.path]
    if isinstance(level, str):
        chosen = [i for i in here if found[i].path == level]
        if not chosen:
            raise ValueError(_unknown(found, level))
        if strides[chosen[0]] is None:
            raise ValueError(
                "A level must be a feature map, whose size depends on that of "
                f"the image. Received: {level!r} with the output shape "
                f"{found[chosen[0]].shape}."
            )
    else:
        chosen = _with_stride(found, strides, here, level)
    return found[chosen[-1]].layer


def _with_stride(found, strides, here, stride):
    candidates = [
        i
        for i in graph.trunk(found)
        if i in here
        and strides[i] is not None
        and not isinstance(found[i].layer, keras.layers.ZeroPadding2D)
    ]
    # After the last group, WRN has BN and ReLU with the same stride.
    groups = [i for i in candidates if _is_group(found[i].path)] or candidates
    chosen = [i for i in groups if strides[i] == stride]
    if not chosen:
        known = dict.fromkeys(strides[i] for i in groups)
        raise ValueError(
            "`levels` must be names of layers or strides of the network: "
            f"{', '.join(map(str, known))}. Received: stride {stride}."
        )
    return chosen


def _is_group(name):
    return name.startswith("group") and name[5:].isdigit()


def _unknown(found, name):
    """The message for a name that no layer has."""
    inside = [c.path for c in found if c.path.endswith(f"/{name}")]
    names = [call.path for call in found if "/" not in call.path]
    near = difflib.get_close_matches(name, names, 3, 0.4)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    if inside:
        model = inside[0].rpartition("/")[0].replace("/", "').get_layer('")
        hint = (
            f" It is a layer of an inner model: pass model.get_layer('{model}')"
            " instead."
        )
    return f"The model has no layer {name!r}.{hint}"
