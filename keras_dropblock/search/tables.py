"""Tables of a search: mean and standard deviation over the seeds."""

import csv
import dataclasses
import io
import statistics

from keras_dropblock.search.space import as_text


@dataclasses.dataclass(frozen=True)
class Table:
    """Scores of points of a search space, as far as their runs are finished.

    Attributes:
        keys: the keys that vary.
        seeds: number of planned runs of each point.
        metrics: the task's `Metric`s. Points are compared by the first one.
        rows: one dict for each point: the values of the keys, and what
            `summary` returns. Further columns are only in the CSV.
    """

    keys: tuple
    seeds: int
    metrics: tuple
    rows: list[dict]

    @property
    def main(self):
        """The metric that points are compared by."""
        return self.metrics[0]

    def best(self):
        """Rows with the best mean, among those with all seeds finished."""
        key = f"{self.main.name}_mean"
        whole = [row for row in self.rows if row["n"] == self.seeds]
        choose = max if self.main.higher_is_better else min
        best = choose((row[key] for row in whole), default=None)
        return [row for row in whole if row[key] == best]

    def top(self, count):
        """A table of the best rows that have a score, best first."""
        key = f"{self.main.name}_mean"
        scored = [row for row in self.rows if row[key] is not None]
        scored.sort(key=lambda r: r[key], reverse=self.main.higher_is_better)
        return dataclasses.replace(self, rows=scored[:count])

    def csv(self):
        """The rows as CSV, with unscaled metrics and lists as in TOML."""
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
        """The rows as a Markdown table, with the best mean in bold."""
        heads = ["n", *(metric.heading for metric in self.metrics)]
        heads += ["parameters", "seconds"]
        lines = [
            [*self.keys, *heads],
            ["---"] * len(self.keys) + ["---:"] * len(heads),
        ]
        best = self.best()
        for row in self.rows:
            main, *others = (mean_and_std(row, m) for m in self.metrics)
            lines.append(
                [
                    *(as_text(row[key]) for key in self.keys),
                    f"{row['n']} ({row['failed']} failed)"
                    if row["failed"]
                    else f"{row['n']}",
                    f"**{main}**" if row in best else main,
                    *others,
                    _or_dash(row["parameters"], ",d"),
                    _or_dash(row["seconds"], ",.0f"),
                ]
            )
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def mean_and_std(row, metric):
    """`mean ± std` of a row. Only the mean if n is 1, a dash if n is 0."""
    mean, std = row[f"{metric.name}_mean"], row[f"{metric.name}_std"]
    if mean is None:
        return "–"
    text = metric.text(mean)
    return text if std is None else f"{text} ± {metric.text(std)}"


def summary(metrics, scores, failed=0):
    """Mean, standard deviation and standard error of the runs of a point.

    Args:
        metrics: the task's `Metric`s.
        scores: a dict for each finished run. Its keys are the names of the
            metrics, `parameters` and `seconds`, which may be None.
        failed: number of failed runs.

    Returns:
        A dict with the numbers of finished (`n`) and `failed` runs, mean,
        sample standard deviation (ddof=1) and standard error of each metric,
        trainable parameters, and mean seconds of training. Unknown values are
        None.
    """
    summary = {"n": len(scores), "failed": failed}
    for metric in metrics:
        values = [score[metric.name] for score in scores]
        summary[f"{metric.name}_mean"] = _mean(values)
        std = statistics.stdev(values) if len(values) > 1 else None
        summary[f"{metric.name}_std"] = std
        summary[f"{metric.name}_se"] = (
            None if std is None else std / len(values) ** 0.5
        )
    seconds = [s["seconds"] for s in scores if s["seconds"] is not None]
    # All seeds of a point have the same network.
    summary["parameters"] = scores[0]["parameters"] if scores else None
    summary["seconds"] = round(_mean(seconds), 1) if seconds else None
    return summary


def _mean(values):
    return statistics.fmean(values) if values else None


def _or_dash(value, form):
    return "–" if value is None else format(value, form)
