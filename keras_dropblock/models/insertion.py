"""Insertion of DropBlock and other layers into any functional model."""

import itertools

import keras

from keras_dropblock.layers import (
    DropBlock1D,
    DropBlock2D,
    DropBlock3D,
)
from keras_dropblock.models import graph, places
from keras_dropblock.models.network import data_format


def insert_dropblock(model, where, *, keep_prob, block_size, **options):
    """Copy a model, with DropBlock after chosen layers.

    The copy has the same weights, and the same outputs at inference. Weights
    files of the two models are interchangeable, because DropBlock has no
    weights. `KeepProbScheduler` finds the new layers. A model inside the
    model is copied in the same way.

    Args:
        model: a functional or built Sequential Keras model, such as one of
            `keras.applications`. It is not changed.
        where: the layers that DropBlock follows. One of

            - a list of names, such as `["conv4_block1_out"]`,
            - a regular expression that matches whole names (`re.fullmatch`),
              such as `"conv[45]_block._out"`,
            - a function from a layer to bool,
            - `last_stages(2)`: see there.

            The name of a layer in a model inside the model is its own name,
            or its path, `"resnet50/conv4_block1_out"`.
        keep_prob: fraction of units to keep, in [0, 1]. It is the same in all
            places.
        block_size: side of a dropped block in units of the feature map,
            int >= 1.
        **options: further arguments of `DropBlock2D`. With a `seed`, each new
            layer has another one, `seed` plus its position from 0, so that
            each draws its own masks.

    Returns:
        A functional or Sequential model. A class that cannot be built from
        inputs and outputs, such as a KerasHub backbone, becomes a plain
        functional model. The new layers are named after the layers that they
        follow, such as `conv4_block1_out_dropblock`. The model is compiled if
        `model` is.

    Raises:
        ValueError: if `where` chooses nothing, or a layer whose output is not
            a feature map; the message lists similar names. Also if an
            argument is out of its range.
        TypeError: if `model` is not functional.

    Example:
        >>> network = keras.applications.ResNet50(weights=None)
        >>> network = insert_dropblock(
        ...     network, last_stages(2), keep_prob=0.9, block_size=7)
    """
    options = {"data_format": None, "seed": None, **options}
    options["data_format"] = options["data_format"] or data_format(model)
    seed = options.pop("seed")
    seeds = (
        itertools.count(seed) if seed is not None else itertools.repeat(None)
    )

    def dropblock(call, name):
        kinds = {3: DropBlock1D, 4: DropBlock2D, 5: DropBlock3D}
        return kinds[len(call.shape)](
            keep_prob=keep_prob,
            block_size=block_size,
            name=name,
            dtype=getattr(call.layer, "dtype_policy", None),
            seed=next(seeds),
            **options,
        )

    DropBlock2D(keep_prob=keep_prob, block_size=block_size, **options)  # check
    return _Copy(model, where, dropblock, "dropblock").copy


def insert_layer(model, where, layer):
    """Copy a model, with a copy of a layer after chosen layers.

    Use it for Dropout, SpatialDropout2D or StochasticDepth: see
    `insert_dropblock`, which does the same with DropBlock. The layer must not
    change the shape.

    Args:
        model: see `insert_dropblock`.
        where: see `insert_dropblock`. For `StochasticDepth`, choose the ends
            of residual branches, before the sum.
        layer: a new layer. Its copies have its arguments, and names such as
            `conv4_block1_out_dropout`. Its seed should be None: with a seed,
            all copies draw the same numbers.

    Returns:
        See `insert_dropblock`.

    Raises:
        ValueError, TypeError: see `insert_dropblock`.

    Example:
        >>> dropout = keras_dropblock.layers.SpatialDropout2D(0.1)
        >>> network = insert_layer(network, "block6.*_add", dropout)
    """
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            "`layer` must be a Keras layer. Received: "
            f"layer={layer!r}. Did you mean an instance of it?"
        )
    suffix = type(layer).__name__.lower()

    def copy(call, name):
        return type(layer).from_config({**layer.get_config(), "name": name})

    return _Copy(model, where, copy, suffix).copy


class _Copy:
    """A copy of a model with new layers.

    Attributes:
        copy: the copy.
    """

    def __init__(self, model, where, make, suffix):
        """Copy the model.

        Args:
            model, where: see `insert_dropblock`.
            make: function from a `graph.Call` and a name to the layer that
                follows.
            suffix: end of that name.
        """
        graph.functional(model)  # or an error
        self._copies = {}  # id(layer) -> (layer, its copy)
        names = {layer.name for layer in model._flatten_layers()}
        self._after = {}  # id(layer) -> the layer that follows
        for call in places.find(model, where, data_format(model)):
            if id(call.layer) not in self._after:
                name = _unused(f"{call.layer.name}_{suffix}", names)
                self._after[id(call.layer)] = make(call, name)
        self._originals = {}  # id(copy) -> id(layer)
        self.copy = self._copied(model)
        _copy_state(list(self._copies.values()))

    def _copied(self, layer):
        if id(layer) not in self._copies:
            if isinstance(layer, keras.Sequential):
                new = self._sequential(layer)
            elif hasattr(layer, "_run_through_graph"):
                new = keras.models.clone_model(
                    layer,
                    clone_function=self._copied,
                    call_function=self._call,
                )
                if getattr(layer, "card", None) is not None:
                    new.card = layer.card
            elif _has_no_state(layer):
                new = layer
            else:
                new = type(layer).from_config(layer.get_config())
            self._copies[id(layer)] = layer, new
            self._originals[id(new)] = id(layer)
        return self._copies[id(layer)][1]

    def _call(self, layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        after = self._after.get(self._originals[id(layer)])
        return outputs if after is None else after(outputs)

    def _sequential(self, model):
        layers = [keras.Input(batch_shape=model.input_shape)]
        for layer in model.layers:
            layers.append(self._copied(layer))
            if id(layer) in self._after:
                layers.append(self._after[id(layer)])
        new = keras.Sequential(layers, name=model.name)
        if model.compiled:
            new.compile_from_config(model.get_compile_config())
        return new


def _has_no_state(layer):
    """Whether the model and its copy can share a layer.

    An operation of `keras.ops` has no weights. The function of a Lambda layer
    cannot be copied by Keras.
    """
    return not isinstance(layer, keras.Layer) or isinstance(
        layer, keras.layers.Lambda
    )


def _unused(name, names):
    """Add a name to `names`, with a number if it is there already."""
    unused, number = name, 2
    while unused in names:
        unused, number = f"{name}_{number}", number + 1
    names.add(unused)
    return unused


def _copy_state(pairs):
    """Copy weights, and which layers are trained.

    Args:
        pairs: (layer, its copy); a model comes after its layers.
    """
    inner = [pair for pair in pairs if graph.inner(pair[0]) is None]
    outer = [pair for pair in pairs if graph.inner(pair[0]) is not None]
    for old, new in reversed(outer):  # this also changes the layers inside
        new.trainable = old.trainable
    for old, new in inner:
        if new is old:
            continue
        new.set_weights(old.get_weights())
        parts = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
        for a, b in parts:
            b.trainable = a.trainable
