"""The files of a search: tables, plots and a page, updated after each trial."""

import base64
import datetime
import html
import pathlib
import time

from keras_dropblock import files
from keras_dropblock.search import heat_map, plots, results
from keras_dropblock.search.space import as_text
from keras_dropblock.search.storage import patiently
from keras_dropblock.search.tables import mean_and_std

PAGE = "search.html"
_PICTURES = {
    "Grid": "heat_map.png",
    "History": plots.HISTORY,
    "Scores by key": plots.SLICES,
    "Importance of the keys": plots.IMPORTANCE,
}


class Outputs:
    """Writes the files of a search after each trial.

    The plots are drawn again only if that takes less than a twentieth of the
    time since the last drawing.

    Args:
        study: `study.Study`.
        objective: `trial.Objective`.
    """

    def __init__(self, study, objective):
        self.study = study
        self.objective = objective
        self._drawn_at, self._drawing = -float("inf"), 0.0

    def write(self, *, last=False, confirmation=None):
        """Write the files, and print the progress.

        Args:
            last: whether no trial follows, so that the plots are drawn.
            confirmation: `confirmation.Confirmation`, or None.

        Returns:
            `results.Results`.
        """
        found = patiently(results.of_study, self.study, self.objective)
        workdir = self.objective.workdir
        found.write(workdir, self.objective.recipe)
        if found.table.rows:
            now = time.monotonic()
            if last or now - self._drawn_at > 20 * self._drawing:
                self._draw(found)
                self._drawn_at = time.monotonic()
                self._drawing = self._drawn_at - now
            self._write_page(found, confirmation)
        return found

    def _draw(self, found):
        objective, workdir = self.objective, self.objective.workdir
        if objective.named_by_values:
            heat_map.draw(
                found.table,
                {key: d.grid() for key, d in objective.space.items()},
                workdir / _PICTURES["Grid"],
                title(objective),
            )
        if not found.table.best():
            return
        plots.draw_history(found.table, workdir / plots.HISTORY)
        if objective.space:
            plots.draw_slices(
                found.table, objective.space, workdir / plots.SLICES
            )
        shares = patiently(plots.importances, self.study)
        if shares:
            plots.draw_importance(shares, workdir / plots.IMPORTANCE)

    def _write_page(self, found, confirmation):
        import jinja2
        from markupsafe import Markup

        workdir = self.objective.workdir
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        text = environment.get_template("page.html").render(
            title=title(self.objective),
            results=found,
            confirmation=confirmation,
            time=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}",
            rows_of=lambda table: Markup(_rows(table)),
            pictures=[
                (name, _png(workdir / file))
                for name, file in _PICTURES.items()
                if (workdir / file).exists()
            ],
        )
        files.write_text(workdir / PAGE, text)


def _rows(table):
    """A table as HTML: best trials first, then those without a score."""
    scored = table.top(len(table.rows)).rows
    rows = [*scored, *(row for row in table.rows if row not in scored)]
    heads = [*table.keys, "n", *(m.heading for m in table.metrics)]
    extra = [key for key in ("trial", "state", "epochs") if key in rows[0]]
    lines = [_line("th", [*extra, *heads, ""])]
    best = table.best()
    for row in rows:
        cells = [*(row[key] for key in (*extra, *table.keys)), row["n"]]
        cells = ["–" if cell is None else as_text(cell) for cell in cells]
        cells += [mean_and_std(row, metric) for metric in table.metrics]
        kind = "best" if row in best else row.get("state") or ""
        lines.append(_line("td", [*cells, row.get("error") or ""], kind))
    return f"<table>\n{''.join(lines)}</table>"


def _line(tag, cells, kind=""):
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{kind}">{inside}</tr>\n'


def _png(path):
    data = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{data}"


def title(objective):
    """The title of a plot: the settings that all runs of a search share."""
    recipe = objective.recipe
    images = pathlib.PurePath(recipe.dataset).name
    parts = {
        "model": recipe.model,
        "dataset": f"on {images}",
        "validation_split": "(validation)",
        "epochs": f"after {recipe.epochs} epochs",
    }
    return " ".join(
        text for key, text in parts.items() if key not in objective.space
    )
