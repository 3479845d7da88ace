"""The pictures of the claims: curves and heat maps."""

import math
import statistics

from comparison import data_loss


def draw_all(evidence, folder):
    """Draw the pictures of all claims with results."""
    for name in filter(evidence.has_results, evidence.claims):
        if shows_curves(evidence, name):
            draw(evidence, name, folder / f"{name}.png")
        for run in evidence.grids(name):
            main = evidence.task(name).metrics[0]
            draw_heat_map(evidence, run, main, folder / f"{run}_heat_map.png")


def draw(evidence, claim, path):
    """Plot curves of the scores and the loss, averaged over the seeds.

    Args:
        evidence: `Evidence`.
        claim: name of a claim with finished runs.
        path: file to write.
    """
    from matplotlib.figure import Figure

    from keras_dropblock import files
    from keras_dropblock.report.curves import label_in_full

    runs = {
        name: [*evidence.finished(name).values()]
        for name in evidence.claims[claim]["runs"]
    }
    curves = _curves(evidence.task(claim).metrics[0], sum(runs.values(), []))
    size = 4.5 * len(curves) + 2.3, 3.2  # with the legend beside the curves
    figure = Figure(figsize=size, layout="constrained")
    cells = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, value, scale) in zip(cells, curves, strict=True):
        for name, found in runs.items():
            epochs, mean = _mean_curve(found, value)
            label = f"{name} (n = {len(found)})"
            if epochs:
                axes.plot(epochs, mean, label=label)
        axes.set(title=title, xlabel="epoch", yscale=scale)
        if scale == "log":
            label_in_full(axes.yaxis)
        axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside right upper",
        fontsize="small",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_figure(path, figure)


def _curves(main, runs):
    """(title, function from a run and a row, scale) of each curve.

    Args:
        main: the metric to show, of the validation split if it was scored.
        runs: list of `Run`.
    """
    first_rows = [run.history[0] for run in runs]
    split = "test"
    if any(f"validation_{main.name}" in row for row in first_rows):
        split = "validation"
    key = f"{split}_{main.name}"

    def score(run, row):
        return main.curve_value(float(row[key]))

    curves = [("training loss", data_loss, "log")]
    # Runs without a validation split are scored only at the end.
    if all(key in row for row in first_rows):
        scale = "log" if main.complement else "linear"
        curves.insert(0, (f"{split} {main.curve_title}", score, scale))
    return curves


def _mean_curve(runs, value):
    """(epochs, mean over runs) of a value of each epoch, without NaN.

    Args:
        runs: list of `Run`.
        value: function from a `Run` and a row of its `history.csv` to a
            number.
    """
    lines = [[value(run, row) for row in run.history] for run in runs]
    means = map(statistics.fmean, zip(*lines, strict=True))
    known = [(i, x) for i, x in enumerate(means, 1) if math.isfinite(x)]
    return [i for i, _ in known], [x for _, x in known]


def draw_heat_map(evidence, name, main, path):
    """Draw the validation scores over the two keys that a run tries.

    Args:
        evidence: `Evidence`.
        name: of the run.
        main: the first metric of its task.
        path: file to write.
    """
    from keras_dropblock.search import heat_map, tables

    grid, rows = evidence.runs[name]["try"], []
    for values, score in evidence.try_scores(name).items():
        scores = [] if score is None else [{main.name: score}]
        scores = [{**x, "seconds": None, "parameters": None} for x in scores]
        keys = dict(zip(grid, values, strict=True))
        rows.append({**keys, **tables.summary([main], scores)})
    table = tables.Table(tuple(grid), 1, [main], rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    heat_map.draw(table, grid, path, f"Validation scores of {name}")


def shows_curves(evidence, claim):
    """Whether no earlier claim has the same runs, and so the same curves."""
    runs = evidence.claims[claim]["runs"]
    same = [k for k, v in evidence.claims.items() if v["runs"] == runs]
    return claim == same[0]
