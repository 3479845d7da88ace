"""Pictures: training curves, and DropBlock at work on a feature map."""

import csv

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.layers import DropBlock2D


def training_curves(history_csv, path):
    """Draw loss, test error and keep_prob by epoch.

    Args:
        history_csv: `history.csv` of a work directory.
        path: picture to write, `.png`.
    """
    from matplotlib.figure import Figure

    with open(history_csv, newline="") as file:
        rows = list(csv.DictReader(file))
    column = {key: [float(row[key]) for row in rows] for key in rows[0]}
    epochs = [epoch + 1 for epoch in column["epoch"]]
    panels = [
        ("loss", {"train": column["loss"], "test": column["val_loss"]}),
        (
            "error, %",
            {
                "train": [100 - 100 * a for a in column["accuracy"]],
                "test": [100 - 100 * a for a in column["val_accuracy"]],
            },
        ),
        ("learning rate", {"": column["learning_rate"]}),
    ]
    if "keep_prob" in column:
        panels.append(("keep_prob", {"": column["keep_prob"]}))
    figure = Figure(figsize=(3.4 * len(panels), 3), layout="constrained")
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels)), panels, strict=True
    ):
        logarithmic = title in ("error, %", "learning rate")
        for label, values in lines.items():
            values = np.array(values)
            if logarithmic:
                values[values == 0] = np.nan  # a gap, not a fall
            axes.plot(epochs, values, ".-", label=label or None, markersize=4)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()
        if logarithmic and any(max(values) > 0 for values in lines.values()):
            axes.set_yscale("log")
            _label_in_full(axes.yaxis)
    _save(figure, path)


def _label_in_full(axis):
    """Label a logarithmic axis 20 and 0.02, not 2 x 10^1 and 2 x 10^-2."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def dropblock_masks(
    model,
    images,
    path,
    *,
    group="group1",
    keep_prob=0.9,
    block_size=7,
    normalise,
):
    """Draw one feature map of real images under Dropout and DropBlock.

    At the same keep_prob, single units (`block_size=1`) leave every feature
    in place, blocks remove it: figure 1 of the DropBlock paper.

    Args:
        model: a network with named groups.
        images: uint8 array (images, height, width, channels); each is a row.
        path: picture to write, `.png`.
        group: the group whose output is drawn, at its strongest channel.
        keep_prob, block_size: of the DropBlock that is drawn.
        normalise: the model's normalisation.
    """
    from matplotlib.figure import Figure

    features = keras.Model(model.input, model.get_layer(group).output)
    x = features(normalise(images), training=False)
    dropped = {
        f"{name}\nkeep_prob {keep_prob:g}, block_size {size}": np.asarray(
            keras.ops.convert_to_numpy(
                DropBlock2D(keep_prob, size, seed=3)(x, training=True)
            )
        )
        for name, size in (("Dropout", 1), ("DropBlock", block_size))
    }
    x = keras.ops.convert_to_numpy(x)
    strongest = x.std((1, 2)).argmax(-1)
    figure = Figure(
        figsize=(9.6, 2.2 * len(images) + 0.5), layout="constrained"
    )
    grid = figure.subplots(len(images), 4, squeeze=False)
    for i, row in enumerate(grid):
        channel = strongest[i]
        row[0].imshow(images[i].squeeze(), cmap="gray")
        limits = {
            "vmin": x[i, ..., channel].min(),
            "vmax": x[i, ..., channel].max(),
        }
        row[1].imshow(x[i, ..., channel], **limits)
        for axes, y in zip(row[2:], dropped.values(), strict=True):
            y = y[i, ..., channel]
            # Dropped units are left blank, and the scale is taken out.
            y = np.where(y == 0, np.nan, x[i, ..., channel])
            axes.imshow(y, **limits)
            axes.set_facecolor("black")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(
        grid[0], ["image", f"{group}, one channel", *dropped], strict=True
    ):
        axes.set_title(title, fontsize=9)
    _save(figure, path)


def _save(figure, path):
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
