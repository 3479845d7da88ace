"""The page of the claims: tables and answers."""

import statistics

import claim_pictures
from comparison import COLUMNS, answer, difference, measured, metrics, signed

INTRODUCTION = """\
# Evidence

These tables check claims of papers with small networks and few images, on
CPUs. They are made from the files in `training/evidence/results`;
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
    baseline = evidence.finished(claim["baseline"])
    for run in claim["runs"]:
        runs = evidence.finished(run)
        means = [_mean(x.of(runs).values(), x.digits) for x in columns]
        gain = "–"
        if run != claim["baseline"]:
            gain = _gain(runs, baseline, main)
        lines.append(
            [run, _differs(evidence, run), f"{len(runs)}"]
            + [*means, gain, _parameters(runs), _minutes(runs)]
        )
    answers = [
        answer(question, evidence, main).sentence
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
        main, *_ = metrics(evidence.task(name))
        found = answer(claim["questions"][0], evidence, main)
        if found.known:
            lines.append(
                f"| {found.text} ({claim['in_readme']}) | {found.verdict} "
                f"| {found.column.heading}: {found.numbers} | {found.n} |"
            )
    if not lines:
        return "No comparison is finished yet.\n"
    heads = ["| question | answer | difference | n |"]
    return "\n".join([*heads, "| --- | --- | ---: | ---: |", *lines, ""])


def heat_map(evidence, name, main):
    """Validation scores over the two keys that a run tries.

    Args:
        evidence: `Evidence`.
        name: of the run.
        main: the first metric of its task.
    """
    rows, columns = evidence.runs[name]["try"]
    scores = evidence.try_scores(name)
    heads = evidence.runs[name]["try"][columns]
    lines = [[rf"{rows} \\ {columns}", *map(str, heads)]]
    lines.append(["---:"] * (1 + len(heads)))
    for value in evidence.runs[name]["try"][rows]:
        found = [scores[value, head] for head in heads]
        cells = ["–" if x is None else f"{main.scale * x:.1f}" for x in found]
        lines.append([str(value), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _differs(evidence, name):
    keys = evidence.differences(name)
    return ", ".join(f"{k} = {v}" for k, v in keys.items()) or "–"


def _tries(evidence, claim, main):
    """Lists of the values that runs have tried, with validation scores."""
    lines = []
    for name in evidence.claims[claim]["runs"]:
        scores = evidence.try_scores(name)
        if scores and None not in scores.values():
            (key,) = evidence.runs[name]["try"]
            values = ", ".join(
                f"{main.scale * score:.1f} with {key} = {value}"
                for (value,), score in scores.items()
            )
            lines.append(f"- {name}: {values}")
    if not lines:
        return []
    head = (
        f"Validation {main.title} in {main.unit} of the values tried (n = 1 "
        "each):"
    )
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
    return signed(mean, error, column.digits)


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
        if not evidence.has_results(name):
            missing.append(f"- {claim['title']} ({claim['source']})")
            continue
        parts += [f"## {claim['title']}", f"*{claim['source']}.*"]
        if "about" in claim:
            parts.append(claim["about"])
        parts.append(table(evidence, name))
        main, grids = evidence.task(name).metrics[0], evidence.grids(name)
        if not grids:
            parts += _tries(evidence, name, main)
        for run in grids:
            parts.append(
                f"Validation {main.title} of {run} in {main.unit}, one run "
                "(n = 1) for each cell:"
            )
            parts.append(heat_map(evidence, run, main))
            parts.append(f"![Heat map](evidence/{run}_heat_map.png)")
        if claim_pictures.shows_curves(evidence, name):
            parts.append(f"![Curves of the runs](evidence/{name}.png)")
    if missing:
        parts.append("## Not trained yet\n\n" + "\n".join(missing))
    count = len([*evidence.results.glob("*/*/metrics.json")])
    hours = _hours(evidence)
    parts.append("## Runs")
    parts.append(
        f"{count} runs are finished, with {hours:.1f} hours of training "
        "steps. The runs of a row may be of different commits and versions: "
        "each folder in `training/evidence/results` names its own in "
        "`run.json`."
    )
    if count:
        parts.append(_versions(evidence))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _hours(evidence):
    """Hours of training steps of all finished runs."""
    from keras_dropblock.runs import Run

    found = sorted(evidence.results.glob("*/*/metrics.json"))
    return sum(Run(path.parent).hours or 0 for path in found)


def _short(commit):
    """Ten digits of a commit; that it had changes is kept."""
    if commit is None:
        return "unknown"
    number, *changes = commit.split(maxsplit=1)
    return " ".join([number[:10], *changes])


def _versions(evidence):
    """A list of the versions, dates and commits of all finished runs."""
    from keras_dropblock.runs import Run

    found = {}
    for path in sorted(evidence.results.glob("*/*/metrics.json")):
        for session in Run(path.parent).sessions:
            versions = sorted(session["versions"].items())
            text = ", ".join(f"{name} {number}" for name, number in versions)
            commits, dates = found.setdefault(text, (set(), set()))
            commits.add(_short(session["commit"]))
            dates.add(session["started"][:10])
    return "\n".join(
        f"- {text}; {' to '.join(sorted({min(dates), max(dates)}))}; commits "
        f"{', '.join(sorted(commits))}"
        for text, (commits, dates) in found.items()
    )
