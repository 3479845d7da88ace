"""One HTML page about one or several runs."""

import base64
import datetime
import functools
import math
import os
import pathlib
import urllib.parse

import keras_dropblock
from keras_dropblock import files, tasks
from keras_dropblock.errors import ReportError, WorkdirError
from keras_dropblock.report import charts, findings, groups, tables


def write(folders, path, *, analysis=None, defaults=None):
    """Write a page that compares runs. It needs no other file and no network.

    The page has the scores with mean and standard deviation over the seeds,
    and the curves. It also has the pictures and tables of each run's folder
    `analysis`, the recipes, and links to the files of the runs.

    Args:
        folders: work directories of runs that have begun, and folders of
            searches.
        path: file to write, `.html`. Links to files are relative to it.
        analysis: folder with an analysis that compares the runs, or None.
        defaults: function from the name of a task to a dict from the keys of
            its recipes to their default values. Other values are in bold.
            None: no value is.

    Returns:
        `pathlib.Path` of the page.

    Raises:
        ReportError: if the extra `report` is not installed.
        WorkdirError: if a folder has no run that has begun, a file of a run
            is damaged, or the folder `analysis` does not exist.
        WriteError: if the page cannot be written.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ReportError(
            "A report needs the extra `report`. Run: pip install "
            f"'keras-dropblock[report]'. ({error})"
        ) from error
    path = pathlib.Path(path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = _png
    environment.filters["svg"] = _svg
    environment.filters["link"] = functools.partial(_link, folder=path.parent)
    content = _content(folders, analysis, defaults)
    text = environment.get_template("page.html").render(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def _content(folders, analysis, defaults):
    """The values of the variables of `page.html`."""
    runs, searches = groups.read(folders)
    grouped, keys = groups.group(runs)
    shown = _best_first(grouped)[: len(charts.COLORS)]
    return {
        "version": keras_dropblock.__version__,
        "time": datetime.datetime.now(datetime.UTC),
        "runs": runs,
        "groups": grouped,
        "tables": tables.scores(grouped, keys),
        "legend": [
            (color, group.label)
            for color, group in zip(charts.COLORS, shown, strict=False)
        ],
        "charts": charts.of(shown),
        "searches": [
            (folder, findings.of_search(folder), _files_of(folder))
            for folder in searches
        ],
        "findings": [*_comparison(analysis), *_findings(grouped)],
        "recipe": tables.recipe(grouped, defaults),
        "facts": [(run, _facts(run), _files_of(run.workdir)) for run in runs],
    }


def _best_first(grouped):
    """Groups by the mean validation score. Those without one come last."""
    if len({group.runs[0].card.task for group in grouped}) > 1:
        return grouped
    metric = grouped[0].metrics[0]
    means = []
    for group in grouped:
        values = [s[metric.name] for s in group.scores("validation")]
        mean = sum(values) / len(values) if values else math.nan
        lower = -mean if metric.higher_is_better else mean
        means.append(math.inf if math.isnan(lower) else lower)
    order = sorted(range(len(grouped)), key=means.__getitem__)
    return [grouped[i] for i in order]


def _comparison(analysis):
    """(title, (label, `Finding`), ()) of each finding that compares runs."""
    if analysis is None:
        return []
    folder = pathlib.Path(analysis)
    if not folder.is_dir():
        raise WorkdirError(
            "`analysis` must be the folder that keras-dropblock-analyze wrote. "
            f"Received: {folder}, which is not a folder."
        )
    return [
        (one.title, [("comparison", one)], [])
        for one in findings.below(folder).values()
    ]


def _findings(grouped):
    """(title, for each group and each run (label, `Finding`)) by name."""
    found = {}
    for group in grouped:
        for i, run in enumerate(group.runs):
            label = f"{group.label}, seed {run.recipe['seed']}"
            for name, one in {
                **_pictures(run),
                **findings.of(run.workdir),
            }.items():
                title, first, others = found.setdefault(
                    name, (one.title, [], [])
                )
                (others if i else first).append((label, one))
    return list(found.values())


def _pictures(run):
    """The pictures that the task draws, where the folder of a run has them."""
    return {
        pathlib.Path(file).stem: findings.Finding(
            caption, run.workdir / file, [], 0, "", [run.workdir / file]
        )
        for file, caption in tasks.find(run.card.task).pictures.items()
        if (run.workdir / file).exists()
    }


def _facts(run):
    """(name, text) of what is known about how a run was made."""
    state = f"{len(run.history)} of {run.recipe['epochs']} epochs"
    facts = [("epochs", state if run.is_finished else f"{state}, unfinished")]
    if run.card.metrics.get("parameters"):
        facts.append(("parameters", f"{run.card.metrics['parameters']:,}"))
    if run.images_per_second is not None:
        facts.append(("speed", f"{run.images_per_second:,.0f} images/s"))
    if run.seconds is not None:
        duration = datetime.timedelta(seconds=round(run.seconds))
        facts.append(("time", str(duration)))
    last = run.sessions[-1]
    devices = last.get("devices", "–")
    versions = last.get("versions", {})
    facts += [
        ("backend", last.get("backend", "–")),
        (
            "devices",
            ", ".join(devices) if isinstance(devices, list) else str(devices),
        ),
        ("commit", last.get("commit") or "not from a checkout"),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items())),
    ]
    return facts


def _files_of(folder):
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]


def _png(path):
    data = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{data}"


def _svg(text):
    data = base64.b64encode(text.encode()).decode()
    return f"data:image/svg+xml;base64,{data}"


def _link(file, folder):
    try:
        relative = os.path.relpath(file, folder)
    except ValueError:  # on another drive of Windows
        return file.resolve().as_uri()
    return urllib.parse.quote(pathlib.Path(relative).as_posix())
