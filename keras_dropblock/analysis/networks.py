"""The networks of the two papers: how large they are, what trains them."""

import math
import pathlib

import keras

from keras_dropblock.models import from_notation
from keras_dropblock.models.groups import in_data_format
from keras_dropblock.recipes import Recipe

# Notation, image shape and classes, in the order of the papers' tables.
_CIFAR = ((32, 32, 3), 10)
_IMAGENET = ((224, 224, 3), 1000)
NETWORKS = {
    **dict.fromkeys(
        [
            *("WRN-40-2-B(1,3,1)", "WRN-40-2-B(3,1)", "WRN-40-2-B(1,3)"),
            *("WRN-40-2-B(3,1,1)", "WRN-28-2", "WRN-22-2-B(3,1,3)"),
            *("WRN-40-2-B(3)", "WRN-40-2-B(3,3,3)", "WRN-40-2-B(3,3,3,3)"),
            *("WRN-40-1", "WRN-40-2", "WRN-40-4", "WRN-40-8", "WRN-40-10"),
            *("WRN-28-10", "WRN-28-12", "WRN-22-8", "WRN-22-10"),
            *("WRN-16-4", "WRN-16-8", "WRN-16-10", "WRN-52-1"),
            *("CifarResNet-110", "CifarResNet-1202", "PreActResNet-110"),
            *("PreActResNet-164", "PreActResNet-1001"),
        ],
        _CIFAR,
    ),
    **dict.fromkeys(
        [
            *("ResNet-18", "ResNet-18-1.5", "ResNet-18-2", "ResNet-18-3"),
            *("ResNet-34", "ResNet-34-1.5", "ResNet-34-2"),
            *("ResNet-50", "ResNet-101", "ResNet-152"),
            *("WRN-50-2-bottleneck", "WRN-101-2-bottleneck"),
        ],
        _IMAGENET,
    ),
}


def multiply_adds(model):
    """Multiplications with additions of a forward pass for one image.

    Of convs and dense layers, as the papers count; a step of training costs
    about three times as much, and two floating-point operations each.

    Args:
        model: of this package's builders, with a known image size.
    """
    total = 0
    for layer, input_shape in _with_kernels(model):
        # Each element of the output is one column of the kernel at work.
        elements = math.prod(layer.compute_output_shape(input_shape)[1:])
        total += elements * math.prod(layer.kernel.shape[:-1])
    return total


def _with_kernels(model):
    """Convs and dense layers, inside blocks too, with their input shapes."""
    for layer in model.layers[1:]:  # past the input
        shape = layer.input.shape
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            yield layer, shape
        for conv in getattr(layer, "convs", ()):
            yield conv, shape
            shape = conv.compute_output_shape(shape)
        if getattr(layer, "shortcut", None) is not None:
            yield layer.shortcut, layer.input.shape


def parameters(model):
    """Number of trainable parameters."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def petaflop(multiply_adds, images):
    """Compute of a training on that many images, each epoch's counted.

    Twice forward for backward, two operations a multiply-add, 10^15.
    """
    return 3 * 2 * multiply_adds * images / 1e15


def size(notation, image_shape, num_classes):
    """(trainable parameters, multiply-adds) of a network."""
    model = from_notation(
        notation,
        input_shape=in_data_format(image_shape),
        num_classes=num_classes,
    )
    return parameters(model), multiply_adds(model)


def table(recipes=None):
    """Markdown table of `NETWORKS` with the recipes that train them.

    Args:
        recipes: folder of recipes, or None to leave their column out.
    """
    trains = {}
    for path in sorted(pathlib.Path(recipes).glob("*.toml")) if recipes else ():
        trains.setdefault(Recipe.from_toml(path).model, []).append(path.stem)
    rows = [
        ["network", "images", "parameters", "multiply-adds", "recipes"],
        ["---", "---", "---:", "---:", "---"],
    ]
    for notation, (image_shape, num_classes) in NETWORKS.items():
        count, operations = size(notation, image_shape, num_classes)
        rows.append(
            [
                *(notation, f"{image_shape[0]} x {image_shape[1]}"),
                *(f"{count:,}", f"{operations / 1e9:.3g} G"),
                ", ".join(trains.get(notation, ["none"])),
            ]
        )
    columns = len(rows[0]) - (recipes is None)
    return "".join(f"| {' | '.join(row[:columns])} |\n" for row in rows)
