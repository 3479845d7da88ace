"""Plots of the effect of DropBlock on a feature map."""

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.layers import DropBlock2D


def dropblock_masks(
    model,
    images,
    path,
    *,
    group="group1",
    keep_prob=0.9,
    block_size=7,
    normalize,
):
    """Draw a feature map of each image under Dropout and under DropBlock.

    At the same keep_prob, dropping single units (`block_size=1`) leaves every
    feature visible, while dropping blocks removes whole features. See figure 1
    of the DropBlock paper.

    Args:
        model: a network with named groups.
        images: uint8 array (images, height, width, channels). The plot has
            one row for each image.
        path: file to write, `.png`.
        group: name of the group whose output is drawn. For each image, the
            channel with the highest standard deviation is drawn.
        keep_prob, block_size: arguments of the DropBlock layer.
        normalize: function from uint8 images to the model's input.
    """
    from matplotlib.figure import Figure

    features = keras.Model(model.input, model.get_layer(group).output)
    x = features(normalize(images), training=False)
    dropped = {
        f"{name}\nkeep_prob {keep_prob:g}, block_size {size}": np.asarray(
            keras.ops.convert_to_numpy(
                DropBlock2D(keep_prob=keep_prob, block_size=size, seed=3)(
                    x, training=True
                )
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
            # Dropped units are blank. Kept units are shown without the scale.
            y = np.where(y == 0, np.nan, x[i, ..., channel])
            axes.imshow(y, **limits)
            axes.set_facecolor("black")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(
        grid[0], ["image", f"{group}, one channel", *dropped], strict=True
    ):
        axes.set_title(title, fontsize=9)
    files.write_figure(path, figure)
