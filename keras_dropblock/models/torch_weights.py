"""Weights of Torch networks for the builders of this package."""

import contextlib
import pathlib

import numpy as np

from keras_dropblock.layers import PreActivationBlock
from keras_dropblock.models.weights import summary


class TorchWeightsError(ValueError):
    """A file that does not fit the network; lists what is wrong."""


def load(model, path):
    """Load a Torch state dict into a network.

    Names are torchvision's (and timm's) for `ResNet`: `layer1.0.conv1.weight`,
    and those of the original Wide ResNet release for `WRN`:
    `group0.block0.conv0`. Nothing is loaded unless everything fits.

    Args:
        model: a `WRN` or `ResNet`, with or without DropBlock.
        path: `.safetensors`, or a file of `torch.save`, which is read with
            `weights_only=True`: it can hold tensors, not code.

    Raises:
        TorchWeightsError: if the file cannot be read, or tensors are missing,
            superfluous, of another shape, or no floats; all are listed.
        ImportError: if safetensors or torch, which reads the file, is not
            installed.

    Example:
        >>> model = keras_dropblock.models.ResNet(50)
        >>> torch_weights.load(model, "resnet50.safetensors")

    Reference:
        torchvision/models/resnet.py; szagoruyko/wide-residual-networks,
        pytorch/resnet.py.
    """
    path = pathlib.Path(path)
    tensors = _read(path)
    places = _places(model)
    wrong = _differences(tensors, places)
    if wrong:
        raise TorchWeightsError(
            f"{path} does not fit {model.name}: {'; '.join(wrong)}."
        )
    # All of them first: a sparse tensor, say, turns out to be no array here.
    with _reading(path):
        arrays = {name: _as_keras(tensors[name]) for name in places}
    for name, variable in places.items():
        variable.assign(arrays[name])


@contextlib.contextmanager
def _reading(path):
    """A context in which errors say that a file cannot be read."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # of many kinds, by format and by version
        raise TorchWeightsError(
            f"{path} cannot be read as Torch weights: {summary(error)}"
        ) from error


def _read(path):
    """The tensors of a file by name, as NumPy or Torch has them.

    They are not converted: the shape that a file gives a tensor may be
    larger than any memory.
    """
    with _reading(path):
        if path.suffix == ".safetensors":
            import safetensors.numpy

            tensors = safetensors.numpy.load_file(path)
        else:
            import torch

            tensors = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "params"):  # of training checkpoints
        if isinstance(tensors, dict):
            tensors = tensors.get(key, tensors)
    if not isinstance(tensors, dict) or not all(
        type(name) is str and hasattr(tensor, "shape")
        for name, tensor in tensors.items()
    ):
        raise TorchWeightsError(
            f"{path} must hold a state dict: names, and a tensor for each. "
            f"Received: {type(tensors).__name__}. Save "
            "`network.state_dict()`."
        )
    # A counter that no inference uses.
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _places(model):
    """Torch's name of each weight -> the variable that it belongs to."""
    blocks = [layer for layer in model.layers if "_block" in layer.name]
    if isinstance(blocks[0], PreActivationBlock):
        # The Wide ResNet release counts from 0.
        stem, first_norm, from_group = "conv0", "bn", 1
        group, shortcut = "group{}.block{}.", "convdim"
        conv, norm, from_conv = "conv{}", "bn{}", 0
    else:
        stem, first_norm, from_group = "conv1.weight", "bn1", 0
        group, shortcut = "layer{}.{}.", "downsample.0.weight"
        conv, norm, from_conv = "conv{}.weight", "bn{}", 1
    places = {stem: model.get_layer("stem").kernel}
    places |= _norm(first_norm, model.get_layer("bn"))
    for block in blocks:
        g, i = block.name.removeprefix("group").split("_block")
        prefix = group.format(int(g) - from_group, int(i) - 1)
        for j, layer in enumerate(block.convs):
            places[prefix + conv.format(j + from_conv)] = layer.kernel
        for j, layer in enumerate(block.norms):
            places |= _norm(prefix + norm.format(j + from_conv), layer)
        if block.shortcut is not None:
            places[prefix + shortcut] = block.shortcut.kernel
            if not isinstance(block, PreActivationBlock):
                places |= _norm(prefix + "downsample.1", block.shortcut_norm)
    logits = model.get_layer("logits")
    return places | {"fc.weight": logits.kernel, "fc.bias": logits.bias}


def _norm(name, layer):
    return {
        f"{name}.weight": layer.gamma,
        f"{name}.bias": layer.beta,
        f"{name}.running_mean": layer.moving_mean,
        f"{name}.running_var": layer.moving_variance,
    }


def _differences(tensors, places):
    missing = sorted(places.keys() - tensors.keys())
    extra = sorted(tensors.keys() - places.keys())
    common = {name: tensors[name] for name in places if name in tensors}
    shapes = [
        f"{name} {_keras_shape(tensor)} in place of {tuple(places[name].shape)}"
        for name, tensor in common.items()
        if _keras_shape(tensor) != tuple(places[name].shape)
    ]
    kinds = [
        f"{name} {tensor.dtype}"
        for name, tensor in common.items()
        if not _is_float(tensor)
    ]
    return [
        f"{len(found)} {what}: {', '.join(each[:80] for each in found[:8])}"
        + (" ..." if len(found) > 8 else "")
        for what, found in (
            ("missing", missing),
            ("not known", extra),
            ("of another shape (in Keras's order of axes)", shapes),
            ("no floating-point numbers", kinds),
        )
        if found
    ]


def _is_float(tensor):
    if isinstance(tensor, np.ndarray):
        return tensor.dtype.kind in "fV"  # V: bfloat16 and float8
    return tensor.is_floating_point()


def _axes(tensor):
    """Torch's order of axes -> Keras's."""
    if tensor.ndim == 4:  # out, in, height, width
        return 2, 3, 1, 0
    # A dense kernel (out, in); vectors stay.
    return tuple(reversed(range(tensor.ndim)))


def _keras_shape(tensor):
    return tuple(tensor.shape[axis] for axis in _axes(tensor))


def _as_keras(tensor):
    """A float32 array of a tensor, with the axes as Keras has them."""
    if not isinstance(tensor, np.ndarray):
        tensor = tensor.detach().float().numpy()
    return np.transpose(tensor.astype("float32"), _axes(tensor))
