"""Pictures: curves, sweeps, and DropBlock at work on a feature map."""

import csv
import itertools

import keras
import numpy as np

from keras_dropblock import files
from keras_dropblock.analysis.tables import mean_and_std
from keras_dropblock.grids import as_text
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
    save(figure, path)


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
    save(figure, path)


def sweep_map(table, path, title):
    """Draw the mean accuracy at every point of a sweep, as cells.

    The first key with several values goes across and the second up; each
    combination of the others is a panel. The highest means are outlined.

    Args:
        table: `tables.Table`.
        path: picture to write, `.png`.
        title: what all runs have in common.
    """
    from matplotlib.figure import Figure

    several = [key for key, values in table.grid.items() if len(values) > 1]
    across, up, panels = several[:1], several[1:2], several[2:]
    chosen = _choices(table, panels)
    width, height = (len(_choices(table, key)) for key in (across, up))
    labels = [as_text(v) for key in across for v in table.grid[key]]
    cell = max(0.85, 0.11 * max(map(len, labels), default=0))  # inches wide
    columns = 2 if len(chosen) == 4 else min(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    figure = Figure(
        figsize=(
            max(columns * (cell * width + 0.7) + 1, 5),
            rows * (0.6 * height + 0.8) + 0.6,
        ),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.12)  # inches, between panels
    grid = figure.subplots(rows, columns, squeeze=False)
    colours = _colours(table)
    for axes, values in itertools.zip_longest(grid.flat, chosen):
        if values is None:
            axes.set_axis_off()
        else:
            _draw_cells(axes, table, (across, up), values, colours)
    figure.colorbar(colours, ax=grid, label="accuracy, %")
    seeds = (
        f"mean ± std of {table.seeds} seeds" if table.seeds > 1 else "1 seed"
    )
    figure.suptitle(f"{title}\naccuracy, %, {seeds}", fontsize=10)
    save(figure, path)


def _colours(table):
    """From the lowest mean accuracy of a table to its highest, in %."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    means = [100 * row["accuracy_mean"] for row in table.rows if row["n"]]
    low, high = min(means, default=0), max(means, default=100)
    if low == high:
        low, high = low - 1, high + 1
    return ScalarMappable(
        Normalize(low, high), colormaps["viridis"].with_extremes(bad="0.9")
    )


def _choices(table, keys):
    """Every combination of the values of some keys, each a dict."""
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(table.grid[key] for key in keys))
    ]


def _draw_cells(axes, table, keys, chosen, colours):
    """One panel of a sweep's picture: the points that have chosen values."""
    xs, ys = (_choices(table, key) for key in keys)
    means = np.full((len(ys), len(xs)), np.nan)
    for (y, up), (x, across) in itertools.product(enumerate(ys), enumerate(xs)):
        here = chosen | across | up
        (row,) = [row for row in table.rows if here.items() <= row.items()]
        if row["n"]:
            means[y, x] = 100 * row["accuracy_mean"]
        axes.text(
            *(x + 0.5, y + 0.5, _cell_text(row, table)),
            **{"ha": "center", "va": "center", "fontsize": 8},
            # Black on grey, where no run is done, and on light colours.
            color="white" if colours.norm(means[y, x]) < 0.55 else "black",
        )
        if row in table.best():
            xy = [x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y]
            axes.plot(*xy, color="red", linewidth=2.5, clip_on=False)
    axes.pcolormesh(
        means, norm=colours.norm, cmap=colours.cmap, edgecolors="white"
    )
    for axis, key, choices in zip(
        (axes.xaxis, axes.yaxis), keys, (xs, ys), strict=True
    ):
        labels = [as_text(v) for choice in choices for v in choice.values()]
        axis.set_ticks([i + 0.5 for i in range(len(labels))], labels)
        axis.set_label_text("".join(key))
    values = [f"{key} {as_text(value)}" for key, value in chosen.items()]
    axes.set_title(", ".join(values), fontsize=9)


def _cell_text(row, table):
    """Mean and std of a point, and how many runs it lacks, if any."""
    text = mean_and_std(row, "accuracy", scale=100, digits=2)
    lines = text.replace(" ±", "\n±").splitlines()
    if row["failed"]:
        lines.append(f"{row['failed']} failed")
    elif 0 < row["n"] < table.seeds:
        lines.append(f"n = {row['n']}")
    return "\n".join(lines)


def save(figure, path):
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
