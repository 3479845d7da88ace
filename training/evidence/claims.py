"""Runs that check the papers' claims: their recipes, states and scores."""

import dataclasses
import functools
import itertools
import json
import math
import pathlib
import statistics
import tomllib
import typing

import measures

FOLDER = pathlib.Path(__file__).resolve().parent
SEEDS = 3
TRY_SEED = 1000  # of the runs that choose a value


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run: its folder's name and the keys of its recipe."""

    name: str
    keys: dict

    def state(self, results, workdirs):
        """`"finished"`, the number of finished epochs, or `"missing"`."""
        if (results / self.name / "metrics.json").exists():
            return "finished"
        history = workdirs / self.name / "history.csv"
        if history.exists():
            epochs = len(history.read_text("utf-8").splitlines()) - 1
            return f"{epochs} of {self.keys['epochs']} epochs"
        return "missing"


class Evidence:
    """Runs and claims, as `runs.toml` defines them, with their results.

    Args:
        definitions: parsed `runs.toml`.
        results: folder of the finished runs.
    """

    def __init__(self, definitions, results):
        self.runs = definitions["runs"]
        self.claims = definitions["claims"]
        self._bases = definitions["base"]
        self.results = results

    @classmethod
    def read(cls):
        text = (FOLDER / "runs.toml").read_text("utf-8")
        return cls(tomllib.loads(text), FOLDER / "results")

    def tries(self, name):
        """The runs that choose the values of a run's `try`.

        Returns:
            Dict from a tuple of values, one for each key of `try`, to `Job`.
        """
        keys, tried = self._keys(name), self.runs[name].get("try")
        if keys is None or not tried:
            return {}
        return {
            values: Job(
                f"{name}/try_{'_'.join(map(str, values))}",
                {
                    **keys,
                    **dict(zip(tried, values, strict=True)),
                    "seed": TRY_SEED,
                },
            )
            for values in itertools.product(*tried.values())
        }

    def try_scores(self, name):
        """Validation accuracies of `tries`, None where it is not known yet."""
        return {v: self._score(job) for v, job in self.tries(name).items()}

    def chosen(self, name):
        """The keys that `try` has chosen. None if they are not known yet."""
        scores = self.try_scores(name)
        if self._keys(name) is None or None in scores.values():
            return None
        best = max(scores, key=scores.get, default=())
        return dict(zip(self.runs[name].get("try", ()), best, strict=True))

    def job(self, name, seed):
        """The run of a seed. None if its keys are not chosen yet."""
        chosen = self.chosen(name)
        if chosen is None:
            return None
        return Job(
            f"{name}/seed_{seed}",
            {**self._keys(name), **chosen, "seed": seed},
        )

    def jobs(self, claims=None, seeds=SEEDS):
        """All known runs: claim by claim, and seed by seed."""
        found = {}
        for claim in self.claims if claims is None else claims:
            names = self.claims[claim]["runs"]
            count = self.claims[claim].get("seeds", seeds)
            found |= {j.name: j for n in names for j in self.tries(n).values()}
            for seed in range(count):
                jobs = [self.job(name, seed) for name in names]
                found |= {job.name: job for job in jobs if job is not None}
        return list(found.values())

    def differences(self, name):
        """The keys of a run that its base does not have. `"?"`: unknown."""
        own = {k: v for k, v in self.runs[name].items() if k != "try"}
        base = own.pop("base")
        inherited = {} if base in self._bases else self.differences(base)
        chosen = self.chosen(name)
        if chosen is None:
            chosen = dict.fromkeys(self.runs[name].get("try", ()), "?")
        return {**inherited, **own, **chosen}

    def waiting(self):
        """Names of the runs whose values are not chosen yet."""
        return [name for name in self.runs if self.chosen(name) is None]

    def task(self, claim):
        """The class of the task of a claim's runs."""
        from keras_dropblock import tasks

        return tasks.find(self.keys(claim).get("task", "classification"))

    def finished(self, name):
        """`Run`s of the finished seeds of a run, by seed."""
        from keras_dropblock.runs import Run

        files = (self.results / name).glob("seed_*/metrics.json")
        folders = sorted(file.parent for file in files)
        return {
            int(folder.name.removeprefix("seed_")): Run(folder)
            for folder in folders
        }

    def keys(self, claim):
        """The common keys of a claim's runs, such as the data set."""
        base = self.claims[claim]["baseline"]
        while base in self.runs:
            base = self.runs[base]["base"]
        return self._bases[base]

    def _keys(self, name):
        """Keys of a run. None if its base is a run that still has to choose."""
        own = {k: v for k, v in self.runs[name].items() if k != "try"}
        base = own.pop("base")
        if base in self._bases:
            return {**self._bases[base], **own}
        chosen = self.chosen(base)
        if chosen is None:
            return None
        return {**self._keys(base), **chosen, **own}

    def _score(self, job):
        from keras_dropblock.files import parse_json

        path = self.results / job.name / "metrics.json"
        if not path.exists():
            return None
        scores = parse_json(path.read_text("utf-8"))
        return scores["validation"]["accuracy"]


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
        """The value of each `Run` that has one, by seed.

        Args:
            runs: dict from seed to `Run`.
        """
        values = {seed: self.value(runs[seed]) for seed in sorted(runs)}
        return {seed: x for seed, x in values.items() if x is not None}


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
    path = run.workdir / "measures.json"
    return json.loads(path.read_text("utf-8")).get(name)


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


def verdict(mean, error):
    """Yes, No or Not decided: see `answer`."""
    if abs(mean) <= 2 * error:
        return "Not decided"
    return "Yes" if mean > 0 else "No"


def answer(question, better, than, main):
    """One sentence that answers a question, with n and standard error.

    The answer is "Yes" or "No" if the difference is larger than two standard
    errors.

    Args:
        question: dict of `text`; of `better` and `than`, names of runs; and,
            if another column than `main` is compared, of `column` and, if
            that of `than` is another one, `than_column`.
        better, than: dicts from seed to `Run`.
        main: `Column`.
    """
    column = COLUMNS[question["column"]] if "column" in question else main
    names, other = [question["better"], question["than"]], None
    if "than_column" in question:
        other = COLUMNS[question["than_column"]]
        names = [f"{names[0]} ({column.title})", f"{names[1]} ({other.title})"]
    n, mean, error = difference(better, than, column, other)
    text = question["text"]
    if n < SEEDS:
        return f"{text} Not measured yet: {n} of {SEEDS} seeds."
    unit = {"%": " points", "": ""}.get(column.unit, f" {column.unit}")
    compared = "" if other else f"{column.title}; "
    return (
        f"{text} **{verdict(mean, error)}**: {names[0]} minus {names[1]} is "
        f"{mean:+.{column.digits}f} ± {error:.{column.digits}f}{unit} "
        f"({compared}mean and standard error of {n} pairs of runs with equal "
        "seeds)."
    )
