"""The transform gates of highway networks: which blocks are used."""

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.layers import HighwayBlock


def measure_gates(model, images, *, batch_size=128):
    """The mean transform gate of each block of a highway network.

    A block with gates close to 0 copies its input: it has learned nothing
    that the network uses.

    Args:
        model: a `HighwayNet`.
        images: float array of normalized images.
        batch_size: images at a time.

    Returns:
        Dict from the name of each block with a gate, in order, to an array of
        one number in [0, 1] for each channel: the mean over images and
        positions.

    Raises:
        ValueError: if the model has no highway block.
    """
    blocks = [
        layer
        for layer in model.layers
        if isinstance(layer, HighwayBlock) and layer.gate is not None
    ]
    if not blocks:
        raise ValueError(
            "`model` must have highway blocks: see models.HighwayNet. "
            f"Received: model={model.name!r}."
        )
    inputs = keras.Model(model.input, [block.input for block in blocks])
    sums = [0.0] * len(blocks)
    for start in range(0, len(images), batch_size):
        maps = inputs(images[start : start + batch_size], training=False)
        for i, (block, x) in enumerate(zip(blocks, maps, strict=True)):
            sums[i] += _sum_over_images(block, x)
    return {
        block.name: total / len(images)
        for block, total in zip(blocks, sums, strict=True)
    }


def _sum_over_images(block, x):
    """Sum over images of the gates' mean over positions, one per channel."""
    gate = keras.ops.convert_to_numpy(
        keras.ops.cast(block.transform_gate(x), "float32")
    )
    axes = (1, 2) if block.data_format == "channels_last" else (2, 3)
    return gate.mean(axes, dtype="float64").sum(0)


def draw(before, after, path):
    """Draw the gates of each block before and after training.

    Args:
        before, after: results of `measure_gates`.
        path: file to write, `.png`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(1, len(after) + 1)
    for values, label, color in (
        (before, "before training", "tab:gray"),
        (after, "after training", "tab:blue"),
    ):
        each = [np.percentile(x, (10, 50, 90)) for x in values.values()]
        low, _, high = np.transpose(each)
        mean = [x.mean() for x in values.values()]
        axes.plot(places, mean, "o-", color=color, label=label)
        axes.fill_between(places, low, high, color=color, alpha=0.2)
    groups = [name.split("_")[0] for name in after]
    for i in range(1, len(groups)):
        if groups[i] != groups[i - 1]:
            axes.axvline(i + 0.5, color="black", lw=0.5)
    for group in dict.fromkeys(groups):
        axes.text(places[groups.index(group)], 0.98, group, va="top")
    axes.set(
        xlabel="highway block, by depth",
        ylabel="transform gate T(x)",
        ylim=(0, 1),
    )
    axes.legend(loc="center right", frameon=False)
    files.write_figure(path, figure)
