"""Curves of groups of runs as SVG: the mean over seeds, with a band."""

import io

import numpy as np

from keras_dropblock.report import curves

# Distinct on white and on black, and for people who are color-blind.
COLORS = (
    "#3b8fd1",
    "#d9781f",
    "#2b9f6f",
    "#c9559b",
    "#8d76d9",
    "#a58a1a",
    "#7b8794",
    "#c84c4c",
)
# The color of text and axes in matplotlib. In the page it is the text's color.
_TEXT = "#010203"
_STYLE = (
    "<style>:root{color:#333}"
    "@media(prefers-color-scheme:dark){:root{color:#ccc}}</style>"
)


def of(groups):
    """Draw what the histories of groups of runs contain.

    Solid lines show the evaluated split, dashed lines show training. A line
    is the mean over the seeds, and its band is one standard deviation (ddof=1)
    on each side. At each epoch, they are taken over the runs that have
    finished that epoch.

    Args:
        groups: `Group`s, at most as many as there are `COLORS`.

    Returns:
        A list of (title, SVG).
    """
    drawn = {}
    for color, group in zip(COLORS, groups, strict=False):
        for title, logarithmic, split, series in _series(group):
            panel = drawn.setdefault(title, (logarithmic, []))
            panel[1].append((color, split, series))
    return [(title, _draw(title, *panel)) for title, panel in drawn.items()]


def _series(group):
    """(title, logarithmic, split, one array for each run) of each line."""
    lines = {}
    for run in group.runs:
        if not run.history:
            continue
        column = {
            key: [float(row[key]) for row in run.history]
            for key in run.history[0]
        }
        for title, series, logarithmic in curves.panels(column, group.metrics):
            for split, values in series.items():
                key = title, logarithmic, split
                lines.setdefault(key, []).append(np.array(values))
    return [(*key, values) for key, values in lines.items()]


def mean_and_band(series):
    """Mean and standard deviation over runs at each epoch.

    Args:
        series: list of float arrays (epochs of the run,).

    Returns:
        Arrays (mean, std) with the length of the longest run. The standard
        deviation is NaN where fewer than two runs have a value. Both are NaN
        where a value is not finite.
    """
    longest = max(map(len, series))
    mean, std = np.full((2, longest), np.nan)
    for epoch in range(longest):
        values = [one[epoch] for one in series if epoch < len(one)]
        if np.isfinite(values).all():
            mean[epoch] = np.mean(values)
            if len(values) > 1:
                std[epoch] = np.std(values, ddof=1)
    return mean, std


def _draw(title, logarithmic, lines):
    import matplotlib
    from matplotlib.figure import Figure

    options = {
        "svg.fonttype": "none",
        "svg.hashsalt": "report",  # the same input gives the same bytes
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor"), _TEXT
        ),
        **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), _TEXT),
    }
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(3.6, 2.8), layout="constrained")
        axes = figure.subplots()
        positive = [
            _line(axes, color, split, series, logarithmic)
            for color, split, series in lines
        ]
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.2)
        if logarithmic and any(positive):
            axes.set_yscale("log")
            curves.label_in_full(axes.yaxis)
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata={"Date": None}
        )
    svg = file.getvalue().replace(_TEXT, "currentColor")
    head, start, rest = svg.partition("<svg ")
    opening, close, rest = rest.partition(">")
    return f"{start}{opening}{close}{_STYLE}{rest}"


def measured(series):
    """Indices of the epochs in which at least one run has a finite value.

    Detectors measure AP only every few epochs, and log NaN in the others.
    """
    longest = max(map(len, series))
    known = np.zeros(longest, bool)
    for one in series:
        known[: len(one)] |= np.isfinite(one)
    return np.flatnonzero(known)


def _line(axes, color, split, series, logarithmic):
    """Draw one line and its band. Returns whether it has a positive value."""
    epochs = measured(series)
    mean, std = (values[epochs] for values in mean_and_band(series))
    if logarithmic:
        mean = np.where(mean > 0, mean, np.nan)  # log scale: leave a gap at 0
    low = mean - std
    if logarithmic:
        low = np.where(low > 0, low, mean)
    epochs = epochs + 1
    axes.fill_between(epochs, low, mean + std, color=color, alpha=0.2, lw=0)
    style = {"ls": "--", "lw": 1} if split == "train" else {"lw": 1.6}
    # A single epoch has no line, so each epoch is marked in short runs.
    marker = "." if len(mean) <= 30 else ""
    axes.plot(epochs, mean, color=color, marker=marker, ms=4, **style)
    return bool((mean > 0).any())
