"""The heat map of a grid of runs."""

import itertools

import numpy as np

from keras_dropblock import files
from keras_dropblock.search.space import as_text
from keras_dropblock.search.tables import mean_and_std


def draw(table, grid, path, title):
    """Draw the mean of the main metric at every point of a grid.

    The first key with several values is the x axis and the second the y axis.
    Each combination of the other keys is a panel. The best means are
    outlined.

    Args:
        table: `tables.Table` with a row for each point.
        grid: dict from key to values.
        path: image file to write, `.png`.
        title: first line of the figure's title.
    """
    from matplotlib.figure import Figure

    several = [key for key, values in grid.items() if len(values) > 1]
    across, up, panels = several[:1], several[1:2], several[2:]
    chosen = _choices(grid, panels)
    width, height = (len(_choices(grid, key)) for key in (across, up))
    labels = [as_text(v) for key in across for v in grid[key]]
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
    panes = figure.subplots(rows, columns, squeeze=False)
    colors = _colors(table)
    for axes, values in itertools.zip_longest(panes.flat, chosen):
        if values is None:
            axes.set_axis_off()
        else:
            choices = [_choices(grid, key) for key in (across, up)]
            _draw_cells(axes, table, choices, values, colors)
    figure.colorbar(colors, ax=panes, label=table.main.heading)
    seeds = (
        f"mean ± std of {table.seeds} seeds" if table.seeds > 1 else "1 seed"
    )
    figure.suptitle(f"{title}\n{table.main.heading}, {seeds}", fontsize=10)
    files.write_figure(path, figure)


def _colors(table):
    """The color scale, from the lowest mean of a table to the highest."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    means = [_mean(row, table) for row in table.rows if row["n"]]
    low, high = min(means, default=0), max(means, default=100)
    if low == high:
        low, high = low - 1, high + 1
    return ScalarMappable(
        Normalize(low, high), colormaps["viridis"].with_extremes(bad="0.9")
    )


def _mean(row, table):
    return table.main.scale * row[f"{table.main.name}_mean"]


def _choices(grid, keys):
    """All combinations of the values of some keys, as dicts."""
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(grid[key] for key in keys))
    ]


def _draw_cells(axes, table, choices, chosen, colors):
    """Draw one panel: the points that have the values in `chosen`."""
    xs, ys = choices
    means = np.full((len(ys), len(xs)), np.nan)
    for (y, up), (x, across) in itertools.product(enumerate(ys), enumerate(xs)):
        here = chosen | across | up
        (row,) = [row for row in table.rows if here.items() <= row.items()]
        if row["n"]:
            means[y, x] = _mean(row, table)
        axes.text(
            x + 0.5,
            y + 0.5,
            _cell_text(row, table),
            ha="center",
            va="center",
            fontsize=8,
            # Black on light colors and on gray, where no run is finished.
            color="white" if colors.norm(means[y, x]) < 0.55 else "black",
        )
        if row in table.best():
            xy = [x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y]
            axes.plot(*xy, color="red", linewidth=2.5, clip_on=False)
    axes.pcolormesh(
        means, norm=colors.norm, cmap=colors.cmap, edgecolors="white"
    )
    for axis, choices in ((axes.xaxis, xs), (axes.yaxis, ys)):
        labels = [as_text(v) for choice in choices for v in choice.values()]
        axis.set_ticks([i + 0.5 for i in range(len(labels))], labels)
        axis.set_label_text("".join(choices[0]))
    values = [f"{key} {as_text(value)}" for key, value in chosen.items()]
    axes.set_title(", ".join(values), fontsize=9)


def _cell_text(row, table):
    """Mean and std of a point, and how many of its runs failed or finished."""
    text = mean_and_std(row, table.main)
    lines = text.replace(" ±", "\n±").splitlines()
    if row["failed"]:
        lines.append(f"{row['failed']} failed")
    elif 0 < row["n"] < table.seeds:
        lines.append(f"n = {row['n']}")
    return "\n".join(lines)
