"""The page of the claims: tables, answers and pictures."""

import math
import statistics

from claims import (
    COLUMNS,
    SEEDS,
    answer,
    data_loss,
    difference,
    measured,
    metrics,
    verdict,
)

INTRODUCTION = """\
# Evidence

These tables check claims of the two papers with small networks and few
images, on CPUs. They are made from the files in `training/evidence/results`;
do not edit them. `make evidence` trains what is missing and rebuilds this
page.

Unless a section names other data, runs train on 5,000 images of CIFAR-10 (500
of each class) and validate on 1,000 other training images. They are evaluated
once on the 10,000 test images, after the last epoch. For some regularizers,
several values are first compared on the validation images, with one run and a
separate seed for each value, and the best one is used. With 1,000 images, such
an accuracy has a standard error of about 1.4 points, besides the differences
between seeds.

The tables show mean ± standard deviation over n seeds. A difference is the
mean over pairs of runs with equal seeds, ± its standard error. Equal seeds
give the same order of the images, crops and flips, but other initial weights
if the layers differ. An answer is "Yes" or "No" if the difference is larger
than two standard errors. This is a weak test for n = 3: without any effect,
almost one answer in five is "Yes" or "No" by chance. Losses are shown without
weight decay. Minutes are training steps at the median speed. Several runs and
other work shared the two CPU cores, so the minutes of two runs cannot be
compared. A row with n = 0 is not trained yet, and "?" is a value that is not
chosen yet.

`make evidence` leaves out runs whose folder of images is missing, and runs of
detection if KerasHub is not installed. The claim `detection` also needs the
data set `penn_fudan_ped` (see the notebook on detection). This command trains
runs of detection in the environment of `make test-vision`:
`.venv_vision/bin/python training/evidence/evidence.py --train
--claims=overfit,detection --jobs=2`."""


def table(evidence, name):
    """A claim's table in Markdown, and the answers to its questions."""
    claim = evidence.claims[name]
    main, *others = metrics(evidence.task(name))
    others += [COLUMNS[column] for column in claim.get("columns", ())]
    columns = [main, *others]
    heads = ["run", "what differs", "n"]
    heads += [column.heading for column in columns]
    heads += [f"difference in {main.heading}", "parameters", "minutes"]
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
    for name in claim["runs"]:
        runs = evidence.finished(name)
        gain = "–"
        if name != claim["baseline"]:
            baseline = evidence.finished(claim["baseline"])
            gain = _gain(runs, baseline, main)
        lines.append(
            [name, _differs(evidence, name), f"{len(runs)}"]
            + [
                _mean(column.of(runs).values(), column.digits)
                for column in columns
            ]
            + [gain, _parameters(runs), _minutes(runs)]
        )
    answers = [
        answer(
            question,
            evidence.finished(question["better"]),
            evidence.finished(question["than"]),
            main,
        )
        for question in claim.get("questions", ())
    ]
    return "\n".join(
        [f"| {' | '.join(line)} |" for line in lines]
        + ["", *(f"- {text}" for text in answers)]
    )


def summary(evidence):
    """The first answers of the claims with `in_readme`, for the README."""
    lines = []
    for name, claim in evidence.claims.items():
        if not claim.get("in_readme"):
            continue
        question = claim["questions"][0]
        better, than = (
            evidence.finished(question[run]) for run in ("better", "than")
        )
        main, *_ = metrics(evidence.task(name))
        n, mean, error = difference(better, than, main)
        if n >= SEEDS:
            lines.append(
                f"| {question['text']} ({claim['in_readme']}) "
                f"| {verdict(mean, error)} "
                f"| {main.heading}: {_gain(better, than, main)} | {n} |"
            )
    if not lines:
        return "No comparison is finished yet.\n"
    heads = ["| question | answer | difference | n |"]
    return "\n".join([*heads, "| --- | --- | ---: | ---: |", *lines, ""])


def heat_map(evidence, name):
    """Validation accuracy, in %, over the two keys that a run tries."""
    rows, columns = evidence.runs[name]["try"]
    scores = evidence.try_scores(name)
    heads = evidence.runs[name]["try"][columns]
    lines = [[rf"{rows} \\ {columns}", *map(str, heads)]]
    lines.append(["---:"] * (1 + len(heads)))
    for value in evidence.runs[name]["try"][rows]:
        found = [scores[value, head] for head in heads]
        cells = ["–" if x is None else f"{100 * x:.1f}" for x in found]
        lines.append([str(value), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grids(evidence, claim):
    """The runs of a claim that try pairs of values."""
    return [
        name
        for name in claim["runs"]
        if len(evidence.runs[name].get("try", ())) == 2
    ]


def draw_heat_map(evidence, name, path):
    """Draw `heat_map` as a picture."""
    from keras_dropblock.search import heat_map as pictures
    from keras_dropblock.search import tables
    from keras_dropblock.tasks import Classification

    grid, metrics = evidence.runs[name]["try"], Classification.metrics[:1]
    rows = []
    for values, score in evidence.try_scores(name).items():
        scores = [] if score is None else [{metrics[0].name: score}]
        scores = [{**x, "seconds": None, "parameters": None} for x in scores]
        keys = dict(zip(grid, values, strict=True))
        rows.append({**keys, **tables.summary(metrics, scores)})
    table_ = tables.Table(tuple(grid), 1, metrics, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.draw(table_, grid, path, f"Validation scores of {name}")


def _differs(evidence, name):
    keys = evidence.differences(name)
    return ", ".join(f"{k} = {v}" for k, v in keys.items()) or "–"


def _tries(evidence, claim):
    """Lists of the values that runs have tried, with validation accuracies."""
    lines = []
    for name in claim["runs"]:
        scores = evidence.try_scores(name)
        if scores and None not in scores.values():
            (key,) = evidence.runs[name]["try"]
            values = ", ".join(
                f"{100 * score:.1f} with {key} = {value}"
                for (value,), score in scores.items()
            )
            lines.append(f"- {name}: {values}")
    if not lines:
        return []
    head = "Validation accuracy in % of the values tried (n = 1 each):"
    return [head, "\n".join(lines)]


def _mean(values, digits):
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def _gain(runs, baseline, column):
    n, mean, error = difference(runs, baseline, column)
    if not n:
        return "–"
    text = f"{mean:+.{column.digits}f}"
    return text if error is None else f"{text} ± {error:.{column.digits}f}"


def _parameters(runs):
    counts = {measured("parameters", run) for run in runs.values()}
    return ", ".join(f"{count:,}" for count in sorted(counts)) or "–"


def _minutes(runs):
    hours = [run.hours for run in runs.values() if run.hours is not None]
    return f"{60 * statistics.fmean(hours):.1f}" if hours else "–"


def page(evidence):
    """The text of docs/evidence.md."""
    parts, missing = [INTRODUCTION], []
    for name, claim in evidence.claims.items():
        if not _has_results(evidence, claim):
            missing.append(f"- {claim['title']} ({claim['source']})")
            continue
        parts += [f"## {claim['title']}", f"*{claim['source']}.*"]
        if "about" in claim:
            parts.append(claim["about"])
        parts.append(table(evidence, name))
        if not _grids(evidence, claim):
            parts += _tries(evidence, claim)
        for run in _grids(evidence, claim):
            parts.append(
                f"Validation accuracy of {run} in %, one run (n = 1) for each "
                "cell:"
            )
            parts.append(heat_map(evidence, run))
            parts.append(f"![Heat map](evidence/{run}_heat_map.png)")
        if _shows_curves(evidence, name):
            parts.append(f"![Curves of the runs](evidence/{name}.png)")
    if missing:
        parts.append("## Not trained yet\n\n" + "\n".join(missing))
    count = len([*evidence.results.glob("*/*/metrics.json")])
    hours = _hours(evidence)
    parts.append("## Runs")
    parts.append(
        f"{count} runs are finished, with {hours:.1f} hours of training steps."
    )
    if count:
        parts.append(_versions(evidence))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _has_results(evidence, claim):
    """Whether more than the baseline is finished, if there is more."""
    others = [run for run in claim["runs"] if run != claim["baseline"]]
    return any(evidence.finished(run) for run in others or claim["runs"])


def _hours(evidence):
    """Hours of training steps of all finished runs."""
    from keras_dropblock.runs import Run

    found = sorted(evidence.results.glob("*/*/metrics.json"))
    return sum(Run(path.parent).hours or 0 for path in found)


def _versions(evidence):
    """A list of the versions, dates and commits of all finished runs."""
    from keras_dropblock.runs import Run

    found = {}
    for path in sorted(evidence.results.glob("*/*/metrics.json")):
        for session in Run(path.parent).sessions:
            versions = sorted(session["versions"].items())
            text = ", ".join(f"{name} {number}" for name, number in versions)
            commits, dates = found.setdefault(text, (set(), set()))
            commits.add(session["commit"][:10])
            dates.add(session["started"][:10])
    return "\n".join(
        f"- {text}; {' to '.join(sorted({min(dates), max(dates)}))}; commits "
        f"{', '.join(sorted(commits))}"
        for text, (commits, dates) in found.items()
    )


def _shows_curves(evidence, claim):
    """Whether no earlier claim has the same runs, and so the same curves."""
    runs = evidence.claims[claim]["runs"]
    same = [k for k, v in evidence.claims.items() if v["runs"] == runs]
    return claim == same[0]


def draw_all(evidence, folder):
    """Draw the pictures of all claims with results."""
    for name, claim in evidence.claims.items():
        if _has_results(evidence, claim):
            if _shows_curves(evidence, name):
                draw(evidence, name, folder / f"{name}.png")
            for run in _grids(evidence, claim):
                draw_heat_map(evidence, run, folder / f"{run}_heat_map.png")


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

    main = evidence.task(claim).metrics[0]
    runs = {
        name: [*evidence.finished(name).values()]
        for name in evidence.claims[claim]["runs"]
    }
    split = "test"
    if any(
        f"validation_{main.name}" in x.history[0]
        for x in sum(runs.values(), [])
    ):
        split = "validation"
    key = f"{split}_{main.name}"

    def score(run, row):
        return main.curve_value(float(row[key]))

    scale = "log" if main.complement else "linear"
    curves = [("training loss", data_loss, "log")]
    # Runs without a validation split are scored only at the end.
    every = [run.history[0] for found in runs.values() for run in found]
    if all(key in row for row in every):
        curves.insert(0, (f"{split} {main.curve_title}", score, scale))
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
