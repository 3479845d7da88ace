"""Training curves of a run."""

import csv

import numpy as np

from keras_dropblock import files


def draw(history_csv, metrics, path):
    """Plot loss, metrics, learning rate and keep_prob over the epochs.

    Args:
        history_csv: `history.csv` of a work directory.
        metrics: the task's `Metric`s. Those in the history are plotted.
        path: image file to write, `.png`.
    """
    from matplotlib.figure import Figure

    with open(history_csv, newline="") as file:
        rows = list(csv.DictReader(file))
    column = {key: [float(row[key]) for row in rows] for key in rows[0]}
    epochs = [epoch + 1 for epoch in column["epoch"]]
    drawn = panels(column, metrics)
    figure = Figure(figsize=(3.4 * len(drawn), 3), layout="constrained")
    for axes, (title, series, logarithmic) in zip(
        figure.subplots(1, len(drawn)), drawn, strict=True
    ):
        for label, values in series.items():
            values = np.array(values)
            if logarithmic:
                values[values == 0] = np.nan  # log scale: leave a gap at 0
            axes.plot(epochs, values, ".-", label=label or None, markersize=4)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()
        if logarithmic and any(max(values) > 0 for values in series.values()):
            axes.set_yscale("log")
            label_in_full(axes.yaxis)
    files.write_figure(path, figure)


def panels(column, metrics):
    """The titles and lines of the plots of a history.

    Args:
        column: dict from the columns of `history.csv` to lists of numbers.
        metrics: the task's `Metric`s.

    Returns:
        A list of (title, dict from the name of a split to values, whether the
        axis is logarithmic). Quantities without a split have the name `""`.
    """
    found = [("loss", _lines(column, "loss", lambda value: value), False)]
    for metric in metrics:
        series = _lines(column, metric.name, metric.curve_value)
        if series:
            found.append((metric.curve_title, series, bool(metric.complement)))
    found.append(("learning rate", {"": column["learning_rate"]}, True))
    if "keep_prob" in column:
        found.append(("keep_prob", {"": column["keep_prob"]}, False))
    return found


def _lines(column, name, convert):
    """The values of a metric for each split in the history, by its name."""
    return {
        split: [convert(value) for value in column[key]]
        for split, key in (
            ("train", name),
            ("validation", f"validation_{name}"),
            ("test", f"test_{name}"),
        )
        if key in column
    }


def label_in_full(axis):
    """Label a logarithmic axis with 20 and 0.02, not 2 x 10^1, 2 x 10^-2."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
