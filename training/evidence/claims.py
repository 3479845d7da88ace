"""Runs that check the papers' claims: their recipes and states."""

import dataclasses
import itertools
import math
import pathlib
import tomllib

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
        """Validation scores of `tries`, None where it is not known yet.

        A score is the first metric of the run's task, without its scale.
        """
        return {v: self._score(job) for v, job in self.tries(name).items()}

    def chosen(self, name):
        """The keys that `try` has chosen. None if they are not known yet."""
        scores = self.try_scores(name)
        if self._keys(name) is None or None in scores.values():
            return None

        def rank(values):  # a run with NaN has diverged
            score = scores[values]
            return -math.inf if math.isnan(score) else score

        best = max(scores, key=rank, default=())
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
        return _task(self.keys(claim))

    def finished(self, name):
        """`Run`s of the finished seeds of a run, by seed."""
        from keras_dropblock.runs import Run

        files = (self.results / name).glob("seed_*/metrics.json")
        folders = sorted(file.parent for file in files)
        return {
            int(folder.name.removeprefix("seed_")): Run(folder)
            for folder in folders
        }

    def has_results(self, claim):
        """Whether more than the baseline is finished, if there is more."""
        runs, baseline = (self.claims[claim][k] for k in ("runs", "baseline"))
        others = [run for run in runs if run != baseline]
        return any(self.finished(run) for run in others or runs)

    def grids(self, claim):
        """The runs of a claim that try pairs of values."""
        return [
            name
            for name in self.claims[claim]["runs"]
            if len(self.runs[name].get("try", ())) == 2
        ]

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
        from keras_dropblock.runs import workdir

        path = self.results / job.name / "metrics.json"
        if not path.exists():
            return None
        name = _task(job.keys).metrics[0].name
        return workdir.read_json(path)["validation"][name]


def _task(keys):
    """The class of the task of a recipe with these keys."""
    from keras_dropblock import tasks

    return tasks.find(keys.get("task", "classification"))
