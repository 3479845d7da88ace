"""Tables of a grid of runs: mean and standard deviation over the seeds."""

import csv
import dataclasses
import io
import statistics

from keras_dropblock.grids import as_text, points


@dataclasses.dataclass(frozen=True)
class Table:
    """What a grid of recipes has scored so far.

    Attributes:
        grid: values of each key, by key; all combinations are points.
        seeds: number of runs that each point is to have.
        rows: a dict for each point, in the order of `itertools.product`: the
            point's keys, `n` and `failed` runs, mean and standard deviation
            (of a sample, ddof=1) of accuracy and nll, trainable parameters,
            mean seconds of training. What is not known is None.
    """

    grid: dict[str, tuple]
    seeds: int
    rows: list[dict]

    @classmethod
    def of(cls, grid, seeds, scores, failed):
        """Sum up runs.

        Args:
            grid, seeds: see the class.
            scores: dict from a point, the tuple of its values, to a list of
                a dict for each run that is done: accuracy, nll, parameters
                and seconds, the latter None if they are not known.
            failed: dict from a point to its number of runs that failed.
        """
        rows = [
            {
                **dict(zip(grid, point, strict=True)),
                **_summary(scores.get(point, []), failed.get(point, 0)),
            }
            for point in points(grid)
        ]
        return cls(grid, seeds, rows)

    def best(self):
        """Rows of the highest mean accuracy among points with every seed."""
        whole = [row for row in self.rows if row["n"] == self.seeds]
        highest = max((row["accuracy_mean"] for row in whole), default=None)
        return [row for row in whole if row["accuracy_mean"] == highest]

    def csv(self):
        """The rows as text, accuracy as a fraction, a list as in TOML."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.rows[0])
        for row in self.rows:
            writer.writerow(
                "" if value is None else as_text(value)
                for value in row.values()
            )
        return text.getvalue()

    def markdown(self):
        """The rows as a table, accuracy in %, the highest mean in bold."""
        heads = ["n", "accuracy, %", "nll", "parameters", "seconds"]
        lines = [
            [*self.grid, *heads],
            ["---"] * len(self.grid) + ["---:"] * len(heads),
        ]
        best = self.best()
        for row in self.rows:
            accuracy = mean_and_std(row, "accuracy", scale=100, digits=2)
            lines.append(
                [
                    *(as_text(row[key]) for key in self.grid),
                    f"{row['n']} ({row['failed']} failed)"
                    if row["failed"]
                    else f"{row['n']}",
                    f"**{accuracy}**" if row in best else accuracy,
                    mean_and_std(row, "nll", scale=1, digits=4),
                    _or_dash(row["parameters"], ",d"),
                    _or_dash(row["seconds"], ",.0f"),
                ]
            )
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def mean_and_std(row, quantity, *, scale, digits):
    """`mean ± std` of a row, the mean alone if n is 1, a dash if it is 0."""
    mean, std = row[f"{quantity}_mean"], row[f"{quantity}_std"]
    if mean is None:
        return "–"
    text = f"{scale * mean:.{digits}f}"
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def _summary(scores, failed):
    summary = {"n": len(scores), "failed": failed}
    for quantity in ("accuracy", "nll"):
        values = [score[quantity] for score in scores]
        summary[f"{quantity}_mean"] = _mean(values)
        summary[f"{quantity}_std"] = (
            statistics.stdev(values) if len(values) > 1 else None
        )
    seconds = [s["seconds"] for s in scores if s["seconds"] is not None]
    # The network is the point's, whatever the seed.
    summary["parameters"] = scores[0]["parameters"] if scores else None
    summary["seconds"] = round(_mean(seconds), 1) if seconds else None
    return summary


def _mean(values):
    return statistics.fmean(values) if values else None


def _or_dash(value, form):
    return "–" if value is None else format(value, form)
