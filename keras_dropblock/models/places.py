"""Choice of layers of a functional model: by name, pattern or resolution."""

import dataclasses
import difflib
import re

import keras

from keras_dropblock.layers import masks
from keras_dropblock.layers.highway import HighwayBlock
from keras_dropblock.layers.residual import (
    PostActivationBlock,
    PreActivationBlock,
)
from keras_dropblock.models import graph

_CONVS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    HighwayBlock,
    PostActivationBlock,
    PreActivationBlock,
)
_AFTER_A_CONV = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)


@dataclasses.dataclass(frozen=True)
class LastStages:
    """The convs of the last stages of a network: see `last_stages`."""

    count: int

    def positions(self, found, strides):
        """Positions of the calls after which DropBlock goes."""
        on_trunk = (strides[i] for i in graph.trunk(found))
        stages = [stride for stride in dict.fromkeys(on_trunk) if stride]
        if self.count > len(stages):
            raise ValueError(
                f"`last_stages` must be at most {len(stages)} for this "
                f"network, whose stages have the strides {stages}. "
                f"Received: {self.count}."
            )
        readers = {}
        for i, call in enumerate(found):
            for j in call.inputs:
                readers.setdefault(j, []).append(i)
        return [
            _end_of_unit(i, found, readers)
            for i, call in enumerate(found)
            if isinstance(call.layer, _CONVS)
            and strides[i] in stages[-self.count :]
        ]


def last_stages(count):
    """Choose every conv of the last stages, for `insert_dropblock`.

    A stage is all feature maps of one resolution. DropBlock follows the
    normalization and activation of each conv, if they come directly after it.
    This is where the DropBlock paper puts it in the last two stages of
    ResNet-50. Deviation: the paper also puts it on the shortcuts. Here only
    shortcuts with a conv have it, because an identity shortcut is not a
    layer.

    Args:
        count: number of stages, int >= 1.

    Returns:
        A value for the argument `where`.

    Raises:
        ValueError: if `count` is not an integer >= 1.

    Reference:
        Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 4.1.
    """
    if not masks.is_positive_int(count):
        raise ValueError(
            "`count` must be an integer >= 1, a number of stages. "
            f"Received: count={count!r}."
        )
    return LastStages(count)


def find(model, where, data_format):
    """The calls of a model that `where` chooses.

    Args:
        model: a functional or Sequential model.
        where: see `insert_dropblock`.
        data_format: the data format of the model's images.

    Returns:
        List of `graph.Call`, at least one, each with a feature map.

    Raises:
        ValueError: if nothing is chosen, or an output is not a feature map.
        TypeError: for any other kind of `where`.
    """
    found = graph.calls(model)
    if isinstance(where, LastStages):
        strides = graph.strides(model, data_format)
        chosen = [found[i] for i in where.positions(found, strides)]
    elif isinstance(where, str):
        chosen = [call for call in found if _matches(where, call)]
    elif isinstance(where, list | tuple):
        chosen = [call for name in where for call in _named(name, found)]
    elif callable(where):
        chosen = [call for call in found if where(call.layer)]
    else:
        raise TypeError(
            "`where` must be a list of names of layers, a regular expression "
            "as a string, a function from layer to bool, or last_stages(n). "
            f"Received: where={where!r}."
        )
    if not chosen:
        raise ValueError(_nothing(where, found))
    _check_feature_maps(chosen)
    return chosen


def _end_of_unit(i, found, readers):
    """Position of the last norm or activation that directly follows a conv."""
    while len(readers.get(i, [])) == 1:
        (after,) = readers[i]
        if not isinstance(found[after].layer, _AFTER_A_CONV):
            break
        i = after
    return i


def _matches(pattern, call):
    try:
        return any(
            re.fullmatch(pattern, name) for name in (call.layer.name, call.path)
        )
    except re.error as error:
        raise ValueError(
            "`where` must be a regular expression, such as "
            f"'conv5_.*_out'. Received: where={pattern!r} ({error})."
        ) from error


def _named(name, found):
    chosen = [call for call in found if name in (call.layer.name, call.path)]
    if not chosen:
        raise ValueError(f"No layer has the name {name!r}.{near(name, found)}")
    return chosen


def near(name, found):
    """ " Did you mean a, b?", with the names that are most similar."""
    names = dict.fromkeys(call.path for call in found)
    similar = difflib.get_close_matches(str(name), names, 5, 0.3)
    return f" Did you mean {', '.join(similar)}?" if similar else ""


def _nothing(where, found):
    if isinstance(where, str):
        return (
            f"The pattern {where!r} matches no layer. It must match the whole "
            f"name, as re.fullmatch does.{near(where, found)}"
        )
    names = ", ".join(call.path for call in found[:5])
    return (
        f"`where` chooses none of the {len(found)} layers, which are "
        f"{names}, ... Received: where={where!r}."
    )


def _check_feature_maps(chosen):
    wrong = [
        f"{call.path} {call.shape or 'with several outputs'}"
        for call in chosen
        if call.shape is None or not 3 <= len(call.shape) <= 5
    ]
    if wrong:
        raise ValueError(
            "`where` must choose layers whose output is a feature map, with 3 "
            "to 5 axes: batch, channels and 1 to 3 spatial. Received: "
            f"{', '.join(wrong[:8])}{' ...' if wrong[8:] else ''}."
        )
