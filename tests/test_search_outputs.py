"""The page and the plots of a search."""

import datetime
import html.parser

import numpy as np
import pytest

pytest.importorskip("optuna")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
import optuna
from optuna.trial import TrialState

from keras_dropblock import files
from keras_dropblock.search import outputs, plots, results
from keras_dropblock.search.dimensions import Choice, Range
from keras_dropblock.search.trial import Objective
from keras_dropblock.training.recipe import Recipe

SPACE = {
    "keep_prob": Range(0.5, 1.0),
    "dropblock_groups": Choice(((3,), (2, 3))),
    "learning_rate": Range(0.01, 0.1, log=True),
}


def trial(number, state=TrialState.COMPLETE, accuracy=0.5, **changes):
    params = {
        "keep_prob": 0.5 + number / 25,
        "dropblock_groups": "[3]" if number % 2 else "[2, 3]",
        "learning_rate": 0.02,
    }
    scores = [
        {
            "accuracy": accuracy + shift,
            "top5": 1.0,
            "nll": 1.0,
            "ece": 0.0,
            "parameters": 7,
            "seconds": 2.0,
        }
        for shift in (0.0, 0.1)
    ]
    done = state == TrialState.COMPLETE
    began = datetime.datetime(2026, 1, 1)
    return optuna.trial.FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=accuracy if done else None,
        datetime_start=began,
        datetime_complete=began + datetime.timedelta(seconds=60)
        if state.is_finished()
        else None,
        params=params,
        distributions={k: d.distribution() for k, d in SPACE.items()},
        user_attrs={"scores": scores if done else scores[:1]} | changes,
        system_attrs={},
        intermediate_values={1: 0.1, 2: 0.2},
    )


class FakeStudy:
    """A study of 20 trials, of which these have begun."""

    trials = 20

    def __init__(self, *trials):
        self._trials = trials

    def latest(self):
        return {one.number: one for one in self._trials}

    def load(self):
        study = optuna.create_study(direction="maximize")
        study.add_trials(self._trials)
        return study


@pytest.fixture
def study():
    numbers = range(9)
    scores = [0.5, 0.4, 0.6, 0.3, 0.2, 0.6, 0.5, 0.55, 0.45]
    return FakeStudy(
        *(trial(n, accuracy=a) for n, a in zip(numbers, scores, strict=True)),
        trial(9, TrialState.PRUNED),
        trial(10, TrialState.FAIL, error="<b>no</b>"),
        trial(11, TrialState.RUNNING),
        trial(12, TrialState.RUNNING),
    )


def objective(workdir):
    recipe = Recipe(validation_split=0.1, epochs=3)
    return Objective(recipe, SPACE, workdir, 2, named_by_values=False)


def test_the_time_left_is_that_of_the_workers_together(study, tmp_path):
    found = results.of_study(study, objective(tmp_path))
    # 9 trials are left, a minute each, and two run at a time.
    assert (found.planned, found.finished) == (20, 11)
    assert found.seconds_left == pytest.approx(270)
    assert found.progress() == (
        "11 of 20 trials are finished. Best validation accuracy: 65.00 % "
        "(trial 2). Time left: about 0:04:30."
    )
    nothing = results.of_study(FakeStudy(), objective(tmp_path))
    assert nothing.progress() == "0 of 20 trials are finished."


def test_the_epochs_of_all_trials_are_counted(study, tmp_path):
    rows = results.of_study(study, objective(tmp_path)).table.rows
    # Two seeds of three epochs, or as far as a trial came.
    assert [row["epochs"] for row in rows] == [6] * 9 + [2, 3, 3, 3]
    assert [row["n"] for row in rows] == [2] * 9 + [0, 1, 1, 1]


class Page(html.parser.HTMLParser):
    """The rows of the tables of a page, and the names of its pictures."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.pictures, self.refreshes = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "tr":
            self.rows.append([attributes["class"]])
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")
            self.pictures.append(attributes["alt"])
        self.refreshes |= attributes.get("http-equiv") == "refresh"

    def handle_data(self, text):
        if self.rows and text.strip():
            self.rows[-1].append(text)


def test_the_page_has_all_trials_the_best_first_and_the_plots(study, tmp_path):
    outputs.Outputs(study, objective(tmp_path)).write()
    text = (tmp_path / "search.html").read_text("utf-8")
    page = Page(text)
    heads, *rows = page.rows
    assert heads[1:7] == [
        "trial",
        "state",
        "epochs",
        "keep_prob",
        "dropblock_groups",
        "learning_rate",
    ]
    assert [row[0] for row in rows[:3]] == ["best", "best", "complete"]
    assert rows[0][1:7] == ["2", "complete", "6", "0.58", "[2, 3]", "0.02"]
    assert rows[0][8] == "65.00 ± 7.07"
    assert len(rows) == 13
    (failed,) = (row for row in rows if row[0] == "fail")
    assert failed[-1] == "<b>no</b>"  # as text
    assert "about 0:04:30" in text and page.refreshes
    assert page.pictures == [
        "History",
        "Scores by key",
        "Importance of the keys",
    ]


@pytest.fixture
def drawn(monkeypatch):
    """A list to which figures are added instead of being written."""
    figures = []
    monkeypatch.setattr(
        files, "write_figure", lambda path, figure: figures.append(figure)
    )
    return figures


def test_the_history_shows_the_best_score_so_far(study, tmp_path, drawn):
    table = results.of_study(study, objective(tmp_path)).table
    plots.draw_history(table, tmp_path / "history.png")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    best = lines["best"].get_ydata()
    assert np.allclose(best, [55, 55, 65, 65, 65, 65, 65, 65, 65])
    (pruned,) = (x for x in axes.lines if [*x.get_xdata()] == [9])
    assert pruned.get_marker() == "x"


def test_slices_have_a_panel_for_each_key(study, tmp_path, drawn):
    table = results.of_study(study, objective(tmp_path)).table
    plots.draw_slices(table, SPACE, tmp_path / "slices.png")
    panels = drawn[0].axes
    assert [axes.get_xlabel() for axes in panels] == [*SPACE]
    assert [axes.get_xscale() for axes in panels] == ["linear", "linear", "log"]
    labels = [label.get_text() for label in panels[1].get_xticklabels()]
    assert labels == ["[3]", "[2, 3]"]
    xs, ys = panels[0].lines[0].get_data()
    assert np.allclose(xs, 0.5 + np.arange(9) / 25)
    assert np.allclose(ys[:3], [55, 45, 65])


def test_importances_need_eight_trials(study):
    shares = plots.importances(study)
    assert {*shares} == {*SPACE} and sum(shares.values()) == pytest.approx(1)
    few = FakeStudy(*(trial(n, accuracy=n / 9) for n in range(7)))
    assert plots.importances(few) is None
