"""Plots of a search: history, slices and importance."""

import optuna

from keras_dropblock import files
from keras_dropblock.search.space import as_text

HISTORY, SLICES, IMPORTANCE = "history.png", "slices.png", "importance.png"


def draw_history(table, path):
    """Plot the score of each trial, and the best one so far."""
    from matplotlib.figure import Figure

    rows = [row for row in table.rows if row["n"] == table.seeds]
    rows.sort(key=lambda row: row["trial"])
    numbers = [row["trial"] for row in rows]
    scores = [_score(row, table) for row in rows]
    better = max if table.main.higher_is_better else min
    best = [better(scores[: i + 1]) for i in range(len(scores))]
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    _dots(axes, numbers, rows, table)
    axes.step(numbers, best, where="post", color="tab:red", label="best")
    pruned = [r["trial"] for r in table.rows if r["state"] == "pruned"]
    if pruned and scores:
        worst = min(scores) if table.main.higher_is_better else max(scores)
        axes.plot(pruned, [worst] * len(pruned), "x", color="0.6")
        axes.plot([], [], "x", color="0.6", label="pruned")
    axes.set(xlabel="trial", ylabel=f"validation {table.main.heading}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    axes.grid(alpha=0.3)
    files.write_figure(path, figure)


def draw_slices(table, space, path):
    """Plot the score over each key, one panel for each."""
    from matplotlib.figure import Figure

    rows = [row for row in table.rows if row["n"] == table.seeds]
    count = max(len(table.keys), 1)
    figure = Figure(figsize=(3.2 * count + 0.6, 3.2), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, key in zip(panels, table.keys, strict=False):
        xs = [row[key] for row in rows]
        values = getattr(space[key], "values", None)
        if values is not None:
            xs = [values.index(x) for x in xs]
            axes.set_xticks(range(len(values)), [as_text(v) for v in values])
        elif space[key].log:
            axes.set_xscale("log")
        _dots(axes, xs, rows, table)
        axes.set_xlabel(key)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"validation {table.main.heading}")
    files.write_figure(path, figure)


def draw_importance(importances, path):
    """Plot the share of each key in the differences of the scores."""
    from matplotlib.figure import Figure

    height = 0.8 + 0.35 * len(importances)
    figure = Figure(figsize=(5, height), layout="constrained")
    axes = figure.subplots()
    shares = [*importances.values()][::-1]
    bars = axes.barh([*importances][::-1], shares)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel="importance", xlim=(0, 1.1))
    files.write_figure(path, figure)


def importances(study):
    """Importance of each parameter by Optuna's PED-ANOVA, the highest first.

    Args:
        study: `study.Study`.

    Returns:
        A dict from key to its share, or None if there are too few trials.
    """
    loaded = study.load()
    done = [
        trial
        for trial in loaded.get_trials(deepcopy=False)
        if trial.state == optuna.trial.TrialState.COMPLETE
    ]
    if len(done) < 8 or len({trial.value for trial in done}) < 2:
        return None
    return optuna.importance.get_param_importances(loaded)


def _dots(axes, xs, rows, table):
    """Draw scores, with standard errors if there are several seeds."""
    scale, name = table.main.scale, table.main.name
    axes.errorbar(
        xs,
        [_score(row, table) for row in rows],
        [scale * (row[f"{name}_se"] or 0) for row in rows],
        fmt="o",
        color="tab:blue",
        markersize=4,
        alpha=0.7,
    )


def _score(row, table):
    return table.main.scale * row[f"{table.main.name}_mean"]
