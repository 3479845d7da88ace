"""Weights of Torch networks for the builders of this package."""

import pathlib

import numpy as np

from keras_dropblock.layers import PreActivationBlock


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
            superfluous or of another shape; all are listed.
        ImportError: if safetensors or torch, which reads the file, is not
            installed.

    Example:
        >>> model = keras_dropblock.models.ResNet(50)
        >>> torch_weights.load(model, "resnet50.safetensors")

    Reference:
        torchvision/models/resnet.py; szagoruyko/wide-residual-networks,
        pytorch/resnet.py.
    """
    tensors = _read(pathlib.Path(path))
    places = _places(model)
    wrong = _differences(tensors, places)
    if wrong:
        raise TorchWeightsError(
            f"{path} does not fit {model.name}: {'; '.join(wrong)}."
        )
    for name, variable in places.items():
        variable.assign(_as_keras(tensors[name]))


def _read(path):
    """The tensors of a file, by name."""
    try:
        if path.suffix == ".safetensors":
            import safetensors.numpy

            tensors = safetensors.numpy.load_file(path)
        else:
            import torch

            tensors = torch.load(path, map_location="cpu", weights_only=True)
            for key in ("state_dict", "params"):  # of training checkpoints
                tensors = tensors.get(key, tensors)
            tensors = {
                name: tensor.detach().float().numpy()
                for name, tensor in tensors.items()
            }
    except ImportError:
        raise
    except Exception as error:  # of many kinds, by format and by version
        raise TorchWeightsError(
            f"{path} cannot be read as Torch weights: {error}"
        ) from error
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
    shapes = [
        f"{name} {tuple(_as_keras(tensors[name]).shape)} in place of "
        f"{tuple(variable.shape)}"
        for name, variable in places.items()
        if name in tensors
        and _as_keras(tensors[name]).shape != tuple(variable.shape)
    ]
    return [
        f"{len(found)} {what}: {', '.join(found[:8])}"
        + (" ..." if len(found) > 8 else "")
        for what, found in (
            ("missing", missing),
            ("not known", extra),
            ("of another shape (in Keras's order of axes)", shapes),
        )
        if found
    ]


def _as_keras(tensor):
    """Torch's order of axes -> Keras's."""
    if tensor.ndim == 4:  # out, in, height, width
        return np.transpose(tensor, (2, 3, 1, 0))
    return tensor.T  # a dense kernel (out, in); vectors stay
