"""The page about runs has their scores, curves, pictures and tables."""

import base64
import html.parser
import json
import re
import statistics
import urllib.parse

import numpy as np
import pytest
from absl.testing import flagsaver

from keras_dropblock.errors import ReportError, WorkdirError
from keras_dropblock.report import charts, findings, groups, page, tables
from keras_dropblock.training import evaluation
from keras_dropblock.training.recipe import Recipe, defaults
from small_runs import card

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
# The smallest PNG file: one transparent pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8A"
    "AAAASUVORK5CYII="
)
HOSTILE = "<script>alert('&')</script>"
EPOCHS = 3


def write_run(workdir, accuracies, *changes, **scores):
    """The files of a run with this test accuracy after each epoch."""
    workdir.mkdir(parents=True)
    recipe = Recipe().override(["model=WRN-10-1", f"epochs={EPOCHS}", *changes])
    recipe.write(workdir / "recipe.toml")
    session = {
        "commit": None,
        "backend": "tensorflow",
        "versions": {"keras": "3.15.1"},
        "started": "2026-11-29T10:00:00",
        "seconds": 5.0,
    }
    info = {"images": {"train": 100}, "sessions": [session]}
    (workdir / "run.json").write_text(json.dumps(info))
    card((16, 16, 3), ("a", "b"), dataset="npz").write(workdir)
    columns = "epoch,accuracy,images_per_second,keep_prob,learning_rate,loss,"
    lines = [columns + "test_accuracy,test_loss"]
    for epoch, accuracy in enumerate(accuracies):
        lines.append(f"{epoch},0.5,10,0.9,0.1,{2 - epoch / 2},{accuracy},1.5")
    (workdir / "history.csv").write_text("\n".join(lines) + "\n")
    if len(accuracies) == EPOCHS:
        final = {"top5": 1.0, "nll": 0.5, "ece": 0.02, "images": 43}
        final = {**final, "accuracy": accuracies[-1], **scores}
        (workdir / "metrics.json").write_text(json.dumps(final))
    return workdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two recipes: one with two seeds, one with an unfinished run too."""
    root = tmp_path_factory.mktemp("runs")
    plain = [
        write_run(root / f"plain {seed}", accuracies, f"seed={seed}")
        for seed, accuracies in enumerate([(0.1, 0.2, 0.5), (0.3, 0.4, 0.7)])
    ]
    dropped = [
        write_run(
            root / f"dropblock#{seed}",
            accuracies,
            "keep_prob=0.9",
            f"seed={seed}",
        )
        for seed, accuracies in enumerate([(0.2, 0.3, 0.625), (0.4,)])
    ]
    for i, workdir in enumerate([*plain, *dropped]):
        folder = workdir / "analysis" / "maps"
        folder.mkdir(parents=True)
        (folder / "cat.png").write_bytes(PNG + bytes([i]))
        table = "corruption,score\n" + f"{HOSTILE},0.123456\n" * (60 + i)
        (folder.parent / "corruption_scores.csv").write_text(table)
        fit = {"title": "How calibrated", "bins": 15, "bars": [0.25, {"x": 1}]}
        (folder.parent / "calibration.json").write_text(json.dumps(fit))
        (folder / ".123.hidden.png").write_bytes(b"not finished")
    (plain[0] / "confusion.png").write_bytes(PNG)
    return [*plain, *dropped]


class Page(html.parser.HTMLParser):
    """What a browser would show and load."""

    def __init__(self, path):
        super().__init__()
        self.in_cell = False
        self.tags, self.tables, self.text, self.loaded, self.links = [
            [] for _ in range(5)
        ]
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        elif {"src", "href"} & {*attributes}:
            self.loaded.append(attributes.get("src") or attributes.get("href"))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.text.append(data.strip())
        if self.in_cell:
            self.tables[-1][-1][-1] += data.strip()

    def decoded(self, kind):
        start = f"data:image/{kind};base64,"
        return [
            base64.b64decode(source.removeprefix(start))
            for source in self.loaded
            if source.startswith(start)
        ]


def drawn_page(workdir, path):
    """The report of a run of any task, after `evaluate --draw`."""
    evaluation.draw(*evaluation.load_run(workdir), workdir)
    written = Page(page.write([workdir], path))
    for name in ("confusion.png", "predictions.png"):
        assert (workdir / name).read_bytes() in written.decoded("png")
    return written


@pytest.fixture(scope="module")
def shown(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return Page(page.write(runs, path, defaults=defaults)), path


def test_runs_that_differ_in_the_seed_alone_are_one_group(runs):
    read, searches = groups.read([*runs, runs[0]])
    grouped, keys = groups.group(read)
    assert [group.seeds for group in grouped] == [[0, 1], [0, 1]]
    assert keys == ["keep_prob"] and searches == []
    labels = [group.label for group in grouped]
    assert labels == ["keep_prob = 1", "keep_prob = 0.9"]


def test_the_band_is_the_standard_deviation_over_the_runs_of_an_epoch():
    series = [np.array([1.0, 2.0, 6.0]), np.array([3.0, 2.0])]
    mean, std = charts.mean_and_band(series)
    assert mean.tolist() == [2, 2, 6]
    assert std[:2].tolist() == [statistics.stdev([1, 3]), 0]
    assert np.isnan(std[2])
    mean, _ = charts.mean_and_band([np.array([1.0, np.nan])])
    assert mean[0] == 1 and np.isnan(mean[1])


def test_a_metric_of_every_tenth_epoch_is_one_line(tmp_path):
    """Also in a long run, whose epochs have no markers."""
    measured = {9: 0.25, 19: 0.5, 29: 0.25, 39: 0.5}
    values = [measured.get(epoch, float("nan")) for epoch in range(40)]
    write_run(tmp_path / "run", values, "epochs=40")
    grouped, _ = groups.group(groups.read([tmp_path / "run"])[0])
    (svg,) = (svg for title, svg in charts.of(grouped) if title == "error, %")
    color = charts.COLORS[0]
    (line,) = re.findall(
        rf'<path d="([^"]*)"[^>]*stroke: {color}; stroke-width: 1.6', svg
    )
    assert line.count("M") == 1 and line.count("L") == 3
    assert charts.measured([np.array(values)]).tolist() == [*measured]


def test_scores_are_means_with_deviations_over_finished_runs(shown):
    (heading, plain, dropped) = shown[0].tables[0]
    assert heading[:5] == ["keep_prob", "n", "seeds", "accuracy, %"] + [
        "top-5 accuracy, %"
    ]
    # 50 % and 70 %: mean 60, deviation 20 / sqrt(2). Only one of the others
    # is finished.
    assert plain[:4] == ["1", "2", "0, 1", "60.00 ± 14.14"]
    assert dropped[:4] == ["0.9", "1", "0, 1", "62.50"]


def test_a_validation_split_has_a_table_and_orders_the_curves(tmp_path):
    write_run(tmp_path / "search" / "0", (0.9,), "block_size=5")  # stopped
    for i, score in enumerate([0.5, 0.75], 1):
        write_run(
            tmp_path / "search" / f"{i}",
            (0.1, 0.1, 0.1),
            f"block_size={2 + i}",
            validation={"accuracy": score},
        )
    written = Page(page.write([tmp_path / "search"], tmp_path / "x.html"))
    assert "classification, validation split" in written.text
    assert [row[3] for row in written.tables[1][1:]] == ["–", "50.00", "75.00"]
    curves = written.text[written.text.index("Curves") :]
    labels = [f"block_size = {size}" for size in (4, 3, 5)]
    places = [curves.index(label) for label in labels]
    assert places == sorted(places)


def test_curves_have_a_picture_for_each_quantity_in_the_color_of_the_page(
    shown,
):
    pictures = [svg.decode() for svg in shown[0].decoded("svg+xml")]
    titles = ["loss", "error, %", "learning rate", "keep_prob"]
    assert len(pictures) == len(titles)
    for svg, title in zip(pictures, titles, strict=True):
        assert f">{title}</text>" in svg and "currentColor" in svg
        assert "prefers-color-scheme" in svg and charts._TEXT not in svg
        assert charts.COLORS[0] in svg and charts.COLORS[1] in svg


def test_every_file_of_an_analysis_is_shown_with_its_title(runs, shown):
    written, _ = shown
    for i in range(len(runs)):
        assert PNG + bytes([i]) in written.decoded("png")
    assert PNG in written.decoded("png")  # the task's confusion matrix
    for title in (
        "Maps: cat",
        "Corruption scores",
        "How calibrated",
        "Confusion matrix",
    ):
        assert title in written.text
    tables = [t for t in written.tables if t[0] == ["corruption", "score"]]
    assert len(tables) == len(runs)
    assert {len(table) for table in tables} == {51}
    assert "10 more rows are in the file." in written.text
    assert {tuple(row) for table in tables for row in table[1:]} == {
        (HOSTILE, "0.1235")
    }
    assert [["bins", "15"]] in written.tables
    assert '"bars"' in " ".join(written.text)


def test_the_page_loads_nothing_and_runs_nothing(shown):
    written, _ = shown
    assert "script" not in written.tags and "object" not in written.tags
    assert all(source.startswith("data:") for source in written.loaded)
    text = re.sub('data:[^"]*', "", shown[1].read_text("utf-8"))
    assert "http:" not in text and "https:" not in text


def test_links_lead_to_the_files_of_the_runs(runs, shown):
    written, path = shown
    linked = {
        (
            path.parent / urllib.parse.unquote(urllib.parse.urlsplit(link).path)
        ).resolve()
        for link in written.links
    }
    assert all(file.exists() for file in linked)
    for workdir in runs:
        assert (workdir / "history.csv").resolve() in linked
        assert (workdir / "analysis/maps/cat.png").resolve() in linked


def test_the_recipe_marks_what_is_not_the_default(runs):
    grouped, _ = groups.group(groups.read(runs)[0])
    rows = {
        key: (value, changed)
        for key, value, changed in tables.recipe(grouped, defaults)
    }
    assert rows["keep_prob"] == ("1 | 0.9", True)
    assert rows["model"] == ("WRN-10-1", True)
    assert rows["learning_rate_drops"] == ("[60, 120, 160]", False)
    assert "seed" not in rows


def test_the_defaults_are_those_of_each_runs_own_task(tmp_path, parsed_flags):
    from keras_dropblock.cli import report

    folders = []
    for task, *changes in (
        ("classification",),
        ("segmentation", "model=ResNet-18", "head_keep_prob=0.9"),
        ("detection", "model=ResNet-18"),
    ):
        recipe = [f"task={task}", *changes]
        folders.append(write_run(tmp_path / task, (0.1,), *recipe))
        path = folders[-1] / "card.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "task": task}))
    for chosen, expected in (
        (folders, {"model", "epochs", "head_keep_prob"}),
        (folders[2:], {"model", "epochs"}),
    ):
        grouped, _ = groups.group(groups.read(chosen)[0])
        rows = tables.recipe(grouped, defaults)
        assert {key for key, _, changed in rows if changed} == expected
        assert not any(x for *_, x in tables.recipe(grouped, None))
    with flagsaver.flagsaver(out=str(tmp_path / "report.html")):
        report.report([str(folders[2])])
    text = (tmp_path / "report.html").read_text("utf-8")
    bold = re.findall(r"<td><b>([^<]*)</b></td>", text)
    assert bold == ["ResNet-18", "3"]


def test_unfinished_and_diverged_runs_are_named_as_such(tmp_path, shown):
    assert "1 of 3 epochs, unfinished" in shown[0].text
    nan = float("nan")
    workdir = write_run(tmp_path / "run", (0.1, nan, nan))
    written = Page(page.write([workdir], tmp_path / "x.html"))
    assert written.tables[0][1][3] == "diverged"


def test_a_run_before_its_first_epoch_has_a_page(tmp_path):
    workdir = write_run(tmp_path / HOSTILE.replace("/", ""), ())
    written = Page(page.write([workdir], tmp_path / "x.html"))
    assert "0 of 3 epochs, unfinished" in written.text
    assert "script" not in written.tags and not written.decoded("svg+xml")


def test_runs_are_found_in_the_folders_of_a_search(tmp_path):
    write_run(tmp_path / "study" / "trials" / "1", (0.1,))
    (tmp_path / "study" / "study.png").write_bytes(PNG)
    (tmp_path / "study" / "all_trials.csv").write_text("trial\n7\n")
    written = Page(page.write([tmp_path / "study"], tmp_path / "x.html"))
    assert PNG in written.decoded("png") and "Search study" in written.text
    assert [["trial"], ["7"]] in written.tables
    assert "All trials" in written.text


def test_a_search_of_optuna_is_shown_with_its_trials(npz, tmp_path):
    pytest.importorskip("optuna")
    from keras_dropblock.search import session
    from keras_dropblock.search.dimensions import Range
    from keras_dropblock.search.settings import Settings

    changes = ["model=WRN-10-1", f"dataset={npz}", "validation_split=0.2"]
    recipe = Recipe().override([*changes, "epochs=1", "batch_size=40"])
    session.search(
        recipe,
        {"keep_prob": Range(0.5, 1.0)},
        Settings(sampler="tpe", trials=2),
        workdir=tmp_path / "study",
        verbose=0,
    )
    written = Page(page.write([tmp_path / "study"], tmp_path / "x.html"))
    assert "Search study" in written.text
    (validation,) = (
        table
        for title, _, table in tables.scores(
            *groups.group(groups.read([tmp_path / "study"])[0])
        )
        if title == "classification, validation split"
    )
    assert len(validation) == 2
    (trials,) = (t for t in written.tables if t[0][0] == "trial")
    keep_probs = {row[trials[0].index("keep_prob")] for row in trials[1:]}
    assert len(keep_probs) == 2
    # Keras writes keep_prob with all digits, the page with four.
    shown = {f"{float(row[0]):.4g}" for row in validation}
    assert shown == {f"{float(x):.4g}" for x in keep_probs}


def test_the_command_writes_the_page_and_says_where(
    runs, tmp_path, capsys, parsed_flags
):
    from keras_dropblock.cli import report

    out, analysis = tmp_path / "x.html", tmp_path / "both"
    analysis.mkdir()
    (analysis / "blocks.json").write_text('{"title": "Without a block"}')
    with flagsaver.flagsaver(out=str(out), analysis=str(analysis)):
        report.report([str(runs[0])])
    assert capsys.readouterr().out == f"The report is in {out}.\n"
    text = out.read_text("utf-8")
    assert "WRN-10-1 on npz" in text and "Without a block" in text


def test_a_folder_without_runs_is_an_error(runs, tmp_path):
    with pytest.raises(WorkdirError, match="`analysis` must be the folder"):
        page.write(runs, tmp_path / "x.html", analysis=tmp_path / "none")
    with pytest.raises(WorkdirError, match="has no work directory of a run"):
        page.write([tmp_path], tmp_path / "x.html")
    with pytest.raises(WorkdirError, match="at least one"):
        page.write([], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    "name, content", [("a.json", b"[1]"), ("a.csv", b"\xff\xfe")]
)
def test_damaged_findings_are_errors_that_name_the_file(
    tmp_path, name, content
):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / name).write_bytes(content)
    with pytest.raises(WorkdirError, match=name):
        findings.of(tmp_path)


def test_a_missing_extra_is_one_line(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(ReportError, match=r"keras-dropblock\[report\]"):
        page.write(runs, tmp_path / "x.html")
