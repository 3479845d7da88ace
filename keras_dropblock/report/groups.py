"""Groups of runs. The runs of a group differ only in the seed."""

import dataclasses
import functools
import math
import pathlib
import statistics

from keras_dropblock import tasks
from keras_dropblock.errors import WorkdirError
from keras_dropblock.runs import Run
from keras_dropblock.runs import workdir as names

_DEPTH = 2  # folders between the folder of a search and its runs


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        runs: `Run`s, in the order of their folders.
        label: what distinguishes the group from the others, such as
            `"keep_prob = 0.9"`.
    """

    runs: tuple
    label: str = ""

    @property
    def recipe(self):
        """The recipe of the first run."""
        return self.runs[0].recipe

    @property
    def seeds(self):
        """The seeds of the runs, in their order."""
        return [run.recipe["seed"] for run in self.runs]

    @functools.cached_property
    def metrics(self):
        """The `Metric`s of the task."""
        return tasks.find(self.runs[0].card.task).metrics

    def scores(self, split):
        """The scores of the finished runs on a split, one dict for each run.

        Args:
            split: `"test"` or `"validation"`.
        """
        found = [run.scores for run in self.runs if run.scores is not None]
        if split == "test":
            return found
        return [scores[split] for scores in found if split in scores]


def read(folders):
    """Read runs, and the runs in the folders of searches.

    Args:
        folders: work directories, and folders that contain some.

    Returns:
        A tuple (list of different `Run`s in the order of the folders, list of
        the folders that contain runs).

    Raises:
        WorkdirError: if a folder is not the work directory of a run that has
            begun, and contains no such folder.
    """
    found, searches = {}, []
    for folder in map(pathlib.Path, folders):
        inside = [folder]
        if not (folder / names.RECIPE).exists():
            inside = _runs_inside(folder)
            searches.append(folder)
        for workdir in inside:
            found.setdefault(workdir.resolve(), workdir)
    if not found:
        raise WorkdirError("There must be at least one work directory.")
    return [Run(workdir) for workdir in found.values()], searches


def _runs_inside(folder):
    for depth in range(1, _DEPTH + 1):
        begun = folder.glob("*/" * depth + names.RUN)
        inside = [path.parent for path in sorted(begun)]
        if inside:
            return inside
    raise WorkdirError(
        f"{folder} is not a work directory, and has no work directory of a run "
        f"that has begun: {names.RECIPE} is missing. Use the --workdir of "
        "keras-dropblock-train, or of a search."
    )


def group(runs):
    """Group runs that differ only in the seed.

    Returns:
        A tuple (list of `Group`, in the order of their first runs, list of
        the recipe's keys in which the groups differ).
    """
    alike = []
    for run in runs:
        for others in alike:
            if not differences([run.recipe, others[0].recipe]):
                others.append(run)
                break
        else:
            alike.append([run])
    keys = differences([members[0].recipe for members in alike])
    return [
        Group(tuple(members), _label(members[0], keys)) for members in alike
    ], keys


def _label(run, keys):
    recipe = run.recipe
    if not keys:
        return f"{recipe.get('model')} on {run.card.dataset}"
    return ", ".join(f"{key} = {shown(recipe.get(key))}" for key in keys)


def differences(recipes):
    """Keys in which recipes differ, except the seed, in the recipe's order."""
    keys = {key for recipe in recipes for key in recipe} - {"seed"}
    order = [key for recipe in recipes for key in recipe if key in keys]
    return [
        key
        for key in dict.fromkeys(order)
        if any(recipe.get(key) != recipes[0].get(key) for recipe in recipes)
    ]


def shown(value):
    """A value of a recipe as text. A dash for a key that is not set."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def mean_and_std(values, metric):
    """`mean ± std` of a metric with the unit left out, a dash for no values.

    The standard deviation is that of the sample (ddof=1). A single value has
    none.
    """
    if not values:
        return "–"
    if not all(map(math.isfinite, values)):
        return "diverged"
    text = metric.text(statistics.fmean(values))
    if len(values) == 1:
        return text
    return f"{text} ± {metric.text(statistics.stdev(values))}"
