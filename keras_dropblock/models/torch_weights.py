"""Loading of Torch weights into the networks of this package."""

import contextlib
import importlib
import pathlib

import numpy as np

from keras_dropblock.errors import MissingExtraError, WeightsError, summary
from keras_dropblock.layers import PreActivationBlock


def load(model, path):
    """Load a Torch state dict into a network.

    For `ResNet`, the names of the tensors must be those of torchvision and
    timm, such as `layer1.0.conv1.weight`. For `WRN`, they must be those of
    the original Wide ResNet release, such as `group0.block0.conv0`. The model
    is changed only if all tensors match.

    Args:
        model: a `WRN` or `ResNet`, with or without DropBlock.
        path: a `.safetensors` file, or a file written by `torch.save`. The
            latter is read with `weights_only=True`, so it cannot run code.

    Raises:
        WeightsError: if the file cannot be read, or if tensors are missing,
            unexpected, of the wrong shape, or not floating-point. The message
            lists them all.
        MissingExtraError: if the package that reads the file, safetensors or
            torch, is not installed.

    Example:
        >>> model = keras_dropblock.models.ResNet(50)
        >>> torch_weights.load(model, "resnet50.safetensors")

    Reference:
        torchvision/models/resnet.py; szagoruyko/wide-residual-networks,
        pytorch/resnet.py.
    """
    assign(model, read(path), path)


def assign(model, tensors, path):
    """Load the tensors of `read` into a network: see `load`."""
    places = _places(model)
    wrong = _differences(tensors, places)
    if wrong:
        raise WeightsError(
            f"{path} does not fit {model.name}: {'; '.join(wrong)}."
        )
    # Convert all tensors before the model is changed, because a conversion
    # may fail, for example that of a sparse tensor.
    with _reading(path):
        arrays = {name: _as_keras(tensors[name]) for name in places}
    for name, variable in places.items():
        variable.assign(arrays[name])


@contextlib.contextmanager
def _reading(path):
    """A context that turns errors into a WeightsError about the file."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # the type depends on format and version
        raise WeightsError(
            f"{path} cannot be read as Torch weights: {summary(error)}"
        ) from error


def read(path):
    """Read the tensors of a file: a dict from name to NumPy or Torch tensor.

    The tensors are not converted here, because a file may declare a shape
    that does not fit into memory.

    Raises:
        WeightsError, MissingExtraError: see `load`.
    """
    path = pathlib.Path(path)
    with _reading(path):
        if path.suffix == ".safetensors":
            tensors = _package("safetensors.numpy", path).load_file(path)
        else:
            torch = _package("torch", path)
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "params"):  # keys of training checkpoints
        if isinstance(tensors, dict):
            tensors = tensors.get(key, tensors)
    if not isinstance(tensors, dict) or not all(
        type(name) is str and hasattr(tensor, "shape")
        for name, tensor in tensors.items()
    ):
        raise WeightsError(
            f"{path} must hold a state dict, which maps names to tensors. "
            f"Received: {type(tensors).__name__}. Save "
            "`network.state_dict()`."
        )
    # `num_batches_tracked` is a counter that inference does not use.
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _package(module, path):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(
            f"{path.name} is read with {package}. Run: pip install {package}"
        ) from error


def _places(model):
    """Dict from Torch's name of each weight to the variable of the model."""
    blocks = [layer for layer in model.layers if "_block" in layer.name]
    if isinstance(blocks[0], PreActivationBlock):
        # The Wide ResNet release numbers its groups from 0.
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
        f"{name} {_keras_shape(tensor)} instead of {tuple(places[name].shape)}"
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
            ("unexpected", extra),
            ("of the wrong shape (in Keras's order of axes)", shapes),
            ("not floating-point", kinds),
        )
        if found
    ]


def _is_float(tensor):
    if isinstance(tensor, np.ndarray):
        return tensor.dtype.kind in "fV"  # V: bfloat16 and float8
    return tensor.is_floating_point()


def _axes(tensor):
    """Permutation from Torch's order of axes to Keras's."""
    if tensor.ndim == 4:  # a conv kernel (out, in, height, width)
        return 2, 3, 1, 0
    # A dense kernel (out, in) is transposed; vectors stay the same.
    return tuple(reversed(range(tensor.ndim)))


def _keras_shape(tensor):
    return tuple(tensor.shape[axis] for axis in _axes(tensor))


def _as_keras(tensor):
    """Convert a tensor to a float32 array with Keras's order of axes."""
    if not isinstance(tensor, np.ndarray):
        tensor = tensor.detach().float().numpy()
    return np.transpose(tensor.astype("float32"), _axes(tensor))
