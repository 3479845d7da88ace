"""Numbers of finished runs, and how two runs are compared."""

import dataclasses
import functools
import math
import statistics
import typing

import measures
from claims import SEEDS


@dataclasses.dataclass(frozen=True)
class Column:
    """A number of a finished run, as a column of the tables.

    Args:
        title: without the unit.
        unit: such as `"%"`, or `""`.
        digits: digits after the decimal point.
        value: function from a `Run` to the number in that unit.
    """

    title: str
    unit: str
    digits: int
    value: typing.Callable

    @property
    def heading(self):
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def of(self, runs):
        """The value of each `Run` that has a finite one, by seed.

        Args:
            runs: dict from seed to `Run`.
        """
        values = {seed: self.value(runs[seed]) for seed in sorted(runs)}
        return {
            seed: x
            for seed, x in values.items()
            if x is not None and math.isfinite(x)
        }


def metrics(task=None):
    """Columns of the test scores. Runs are compared by the first one.

    Args:
        task: class of the runs' task; None: `Classification`.
    """
    from keras_dropblock.tasks import Classification

    def value(metric, run):
        return metric.scale * run.scores[metric.name]

    return [
        Column(
            f"test {metric.title}",
            metric.unit,
            metric.digits,
            functools.partial(value, metric),
        )
        for metric in (task or Classification).metrics
        if metric.name != "top5"
    ]


def measured(name, run):
    """A number that was measured on the weights of a finished run, or None."""
    from keras_dropblock.runs import workdir

    return workdir.read_json(run.workdir / "measures.json").get(name)


def _loss_rise(run):
    """Rise of the validation loss between two drops of the learning rate.

    The mean loss of the last quarter of the epochs between the first and the
    second drop, less that of the first quarter. Weight decay is no part of
    these losses. Figure 3 of the Wide ResNet paper shows that loss and error
    rise there, and less with dropout.
    """
    first, second = run.recipe["learning_rate_drops"][:2]
    losses = [
        data_loss(run, row, "validation_") for row in run.history[first - 1 :]
    ][: second - first]
    count = max(1, len(losses) // 4)
    return statistics.fmean(losses[-count:]) - statistics.fmean(losses[:count])


def data_loss(run, row, prefix=""):
    """The loss of an epoch without weight decay.

    Args:
        run: `Run`.
        row: dict, a row of its `history.csv`.
        prefix: `"validation_"` or `"test_"`; `""` is the training split.
    """
    from keras_dropblock.tasks.losses import BOX_WEIGHT

    if "regularization_loss" in row:
        return float(row[f"{prefix}loss"]) - float(row["regularization_loss"])
    # Detectors trained before that column existed. Keras logs the parts of
    # the loss without their weights: see `retinanet.Detector.compile`.
    box, classes = (
        float(row[f"{prefix}{part}_loss"])
        for part in ("bbox_regression", "cls_logits")
    )
    return BOX_WEIGHT * box + len(run.card.class_names) * classes


# Columns that a claim may add to its table.
COLUMNS = {
    "loss_rise": Column("rise of the validation loss", "nats", 4, _loss_rise),
    **{
        name: Column(*about, functools.partial(measured, name))
        for name, about in measures.TITLES.items()
    },
}


def difference(better, than, column, other=None):
    """Compare two runs on the seeds that both have finished.

    Args:
        better, than: dicts from seed to `Run`.
        column: `Column`.
        other: `Column` of `than`, if it is another one.

    Returns:
        (number of seeds, mean difference in the column's unit, its standard
        error). Unknown numbers are None.
    """
    high, low = column.of(better), (other or column).of(than)
    gains = [high[seed] - low[seed] for seed in high if seed in low]
    if not gains:
        return 0, None, None
    error = None
    if len(gains) > 1:
        error = statistics.stdev(gains) / math.sqrt(len(gains))
    return len(gains), statistics.fmean(gains), error


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a question about two runs.

    Args:
        text: the question.
        names: of the two runs, with their columns if these differ.
        column: `Column` whose unit and digits the numbers have.
        compared: the beginning of the note in parentheses.
        n: number of seeds that both runs have finished.
        mean, error: see `difference`.
    """

    text: str
    names: tuple
    column: Column
    compared: str
    n: int
    mean: float | None
    error: float | None

    @property
    def known(self):
        """Whether enough seeds are finished."""
        return self.n >= SEEDS

    @property
    def verdict(self):
        """Yes or No if the mean is more than two standard errors from 0."""
        if abs(self.mean) <= 2 * self.error:
            return "Not decided"
        return "Yes" if self.mean > 0 else "No"

    @property
    def numbers(self):
        """Mean and standard error in the unit of `column`."""
        return signed(self.mean, self.error, self.column.digits)

    @property
    def sentence(self):
        """The question, its answer, and the numbers behind it."""
        if not self.known:
            return f"{self.text} Not measured yet: {self.n} of {SEEDS} seeds."
        unit = self.column.unit
        unit = {"%": " points", "": ""}.get(unit, f" {unit}")
        return (
            f"{self.text} **{self.verdict}**: {self.names[0]} minus "
            f"{self.names[1]} is {self.numbers}{unit} ({self.compared}mean "
            f"and standard error of {self.n} pairs of runs with equal seeds)."
        )


def answer(question, evidence, main):
    """Answer a question.

    Args:
        question: dict of `text`; of `better` and `than`, names of runs; and,
            if another column than `main` is compared, of `column` and, if
            that of `than` is another one, `than_column`.
        evidence: `Evidence`.
        main: `Column`.

    Returns:
        `Answer`.
    """
    column = COLUMNS[question["column"]] if "column" in question else main
    better, than = question["better"], question["than"]
    names, other, compared = (better, than), None, f"{column.title}; "
    if "than_column" in question:
        other, compared = COLUMNS[question["than_column"]], ""
        names = f"{better} ({column.title})", f"{than} ({other.title})"
    runs = evidence.finished(better), evidence.finished(than)
    numbers = difference(*runs, column, other)
    return Answer(question["text"], names, column, compared, *numbers)


def signed(mean, error, digits):
    """A difference and, if it is known, its standard error as text."""
    text = f"{mean:+.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"
