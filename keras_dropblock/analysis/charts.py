"""Plots of studies: lines with bands over seeds, and rows of maps."""

import typing

import numpy as np

from keras_dropblock import files


class Panel(typing.NamedTuple):
    """One plot of a figure.

    Attributes:
        title, xlabel, ylabel: texts.
        lines: result of `series`.
        diagonal: whether to draw the line from (0, 0) to (1, 1).
    """

    title: str
    xlabel: str
    ylabel: str
    lines: dict
    diagonal: bool = False


def series(rows, x, y):
    """Lines of a plot: mean and standard deviation over rows that repeat.

    Args:
        rows: list of dicts with the keys `label`, x and y.
        x, y: keys of the rows. Rows whose y is NaN are left out.

    Returns:
        A dict from each label to three lists: the values of x, texts in the
        order of the rows and numbers sorted; the mean of y; and its standard
        deviation (ddof = 1; 0 for one row).
    """
    values = {}
    for row in rows:
        if not np.isnan(row[y]):
            line = values.setdefault(row["label"], {})
            line.setdefault(row[x], []).append(row[y])
    for label, line in values.items():
        if not any(isinstance(place, str) for place in line):
            values[label] = dict(sorted(line.items()))
    return {
        label: (
            list(line),
            [float(np.mean(group)) for group in line.values()],
            [
                float(np.std(group, ddof=1)) if len(group) > 1 else 0.0
                for group in line.values()
            ],
        )
        for label, line in values.items()
    }


def draw(panels, path, *, share=True):
    """Draw panels side by side, with one legend below them.

    Args:
        panels: list of `Panel`.
        path: file to write, `.png`.
        share: whether all panels have the same range of y.
    """
    from matplotlib.figure import Figure

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    labels = list(dict.fromkeys(x for panel in panels for x in panel.lines))
    words = [x for p in panels for x in next(iter(p.lines.values()), [[]])[0]]
    height = 3.1 * rows + 0.22 * len(labels) + 0.05 * _longest(words)
    figure = Figure(
        figsize=(max(4.2 * columns, 6), height), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, labels)
    handles = {}
    for axes in grid:
        found, names = axes.get_legend_handles_labels()
        handles.update(zip(names, found, strict=True))
    figure.legend(handles.values(), handles, loc="outside lower left")
    files.write_figure(path, figure)


def _draw_panel(axes, panel, labels):
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    for label, (x, mean, std) in panel.lines.items():
        color = f"C{labels.index(label)}"
        mean, std = np.array(mean), np.array(std)
        axes.plot(x, mean, ".-", color=color, label=label)
        if std.any():
            axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.2)
        if x and isinstance(x[0], str):
            axes.tick_params("x", rotation=90 if len(x) > 4 else 0)
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)


def _longest(words):
    return max((len(x) for x in words if isinstance(x, str)), default=0)


def draw_maps(images, names, networks, path, masks=None):
    """Draw images above their activation maps in several networks.

    Args:
        images: uint8 array (images, height, width, channels).
        names: names of their true classes.
        networks: list of (title, maps, predicted names), one for each row:
            maps is an array (images, map height, map width). Each map is
            scaled to its own range. Wrong predictions are red.
        path: file to write, `.png`.
        masks: bool array (images, height, width) of objects, which are
            outlined in white, or None.
    """
    from matplotlib.figure import Figure

    height, width = images.shape[1:3]
    rows = len(networks) + 1
    figure = Figure(
        figsize=(1.5 * len(images) + 0.5, 1.75 * rows), layout="constrained"
    )
    grid = figure.subplots(rows, len(images), squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    for row in grid:
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image.squeeze(), cmap="gray")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    for row, (title, maps, predicted) in zip(grid[1:], networks, strict=True):
        row[0].set_ylabel(title, fontsize=7)
        for axes, one, name, true in zip(
            row, maps, predicted, names, strict=True
        ):
            axes.imshow(
                one,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="bilinear",
                cmap="jet",
                alpha=0.5,
            )
            color = "black" if name == true else "red"
            axes.set_title(name, fontsize=9, color=color)
    for row in grid if masks is not None else ():
        for axes, mask in zip(row, masks, strict=True):
            axes.contour(mask, levels=[0.5], colors="white", linewidths=0.8)
    files.write_figure(path, figure)
