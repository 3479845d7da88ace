"""Work directories whose runs are done, and alike but for the seed."""

import csv
import dataclasses
import json
import pathlib
import re
import statistics

from keras_dropblock.recipes import Recipe
from keras_dropblock.workdir import WorkdirError

# What all sessions of all runs must share to be one result.
_SHARED = ("commit", "backend", "versions")


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a work directory says of a run that is done.

    Attributes:
        workdir: the folder.
        recipe: `Recipe`, resolved.
        info: contents of `run.json`.
        scores: contents of `metrics.json`.
        history: rows of `history.csv`, one for each epoch, all texts.
    """

    workdir: pathlib.Path
    recipe: Recipe
    info: dict
    scores: dict
    history: list[dict]

    @property
    def images_per_second(self):
        """Median over the epochs, without tests and pauses.

        Epochs of fewer than three steps have no speed and do not count. None
        if no epoch has one.
        """
        speeds = [float(row["images_per_second"]) for row in self.history]
        return statistics.median([s for s in speeds if s > 0] or [None])

    @property
    def hours(self):
        """Of training steps, at the median speed; None if there is none."""
        if self.images_per_second is None:
            return None
        images = self.info["training_images"] * self.recipe.epochs
        return images / self.images_per_second / 3600

    @property
    def finished(self):
        """When its last session ended, or began if it was killed then."""
        last = self.info["sessions"][-1]
        return last.get("finished", last["started"])


def read(workdirs):
    """Read runs of one recipe with several seeds.

    Returns:
        `FinishedRun`s, in the order of the work directories.

    Raises:
        WorkdirError: for a run that is not done, was made by code that no
            commit has, or is not alike to the others.
    """
    runs = [_read(pathlib.Path(workdir)) for workdir in workdirs]
    if not runs:
        raise WorkdirError("There must be one work directory at least.")
    for run in runs:
        _check_commit(run)
    first = runs[0]
    for run in runs:  # the first too, whose sessions may differ
        _check_alike(first, run)
    seeds = [run.recipe.seed for run in runs]
    if len({*seeds}) < len(seeds):
        raise WorkdirError(
            "Each run must have a seed of its own. Received: seeds "
            f"{', '.join(map(str, seeds))}."
        )
    return runs


def _read(workdir):
    for name in ("recipe.toml", "run.json", "history.csv", "model.weights.h5"):
        if not (workdir / name).exists():
            raise WorkdirError(
                f"{workdir} is no work directory with a finished epoch: it has "
                f"no {name}."
            )
    recipe = Recipe.from_toml(workdir / "recipe.toml")
    with open(workdir / "history.csv", newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    if len(history) != recipe.epochs or not (workdir / "metrics.json").exists():
        raise WorkdirError(
            f"{workdir} is not done: {len(history)} of {recipe.epochs} epochs, "
            "and metrics.json comes after them. Train on it to the end."
        )
    info, scores = (
        json.loads((workdir / name).read_text("utf-8"))
        for name in ("run.json", "metrics.json")
    )
    return FinishedRun(workdir, recipe, info, scores, history)


def _check_commit(run):
    for session in run.info["sessions"]:
        commit = session["commit"]
        if commit is None or commit.endswith("with changes"):
            raise WorkdirError(
                f"{run.workdir} was trained by code that no commit has "
                f"(commit: {commit}). Commit the changes, and train again "
                "from that checkout."
            )


def _check_alike(first, run):
    ours, theirs = (
        {
            **vars(dataclasses.replace(one.recipe, seed=0)),
            "image_shape": one.info["image_shape"],
            "class_names": one.info["class_names"],
        }
        for one in (first, run)
    )
    different = [key for key in ours if ours[key] != theirs[key]]
    for key in _SHARED:
        values = [
            session[key]
            for one in (first, run)
            for session in one.info["sessions"]
        ]
        if any(value != values[0] for value in values):
            different.append(key)
    if different:
        raise WorkdirError(
            "The runs must be alike but for the seed. "
            f"{run.workdir} differs from {first.workdir} in "
            f"{', '.join(different)}."
        )


def portable(recipe):
    """A recipe without the folders of the machine that ran it."""
    dataset = recipe.dataset
    if dataset.endswith(".npz"):
        dataset = pathlib.Path(dataset).name
    return dataclasses.replace(recipe, dataset=dataset, data_dir=None)


def summary(runs):
    """What runs that are alike have to tell together, for `metrics.json`."""
    first = runs[0]
    sessions = [s for run in runs for s in run.info["sessions"]]
    return {
        "model": first.recipe.model,
        "dataset": portable(first.recipe).dataset,
        "image_shape": first.info["image_shape"],
        "class_names": first.info["class_names"],
        "n": len(runs),
        "seeds": [run.recipe.seed for run in runs],
        "scores": {
            key: _mean_and_std([run.scores[key] for run in runs])
            for key in ("accuracy", "top5", "nll", "ece")
        },
        "runs": [
            {
                "seed": run.recipe.seed,
                **run.scores,
                "hours": _mean([run.hours], 4),
                "images_per_second": _mean([run.images_per_second], 1),
            }
            for run in runs
        ],
        "training": {
            "images": first.info["training_images"],
            "hours": _mean([run.hours for run in runs], 4),
            "images_per_second": _mean(
                [run.images_per_second for run in runs], 1
            ),
            "devices": sorted({d for s in sessions for d in s["devices"]}),
            **{key: sessions[0][key] for key in ("machine", "cpus", *_SHARED)},
            "started": min(session["started"] for session in sessions),
            "finished": max(run.finished for run in runs),
        },
    }


def _mean(values, digits):
    """Rounded mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), digits) if known else None


def _mean_and_std(values):
    """Mean, and the standard deviation of a sample, None of one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std}


def usual_name(recipe):
    """`<model>_<dataset>_<method>`, in lower snake."""
    dataset = pathlib.Path(re.split("[:/]", recipe.dataset)[0])
    if recipe.dataset.endswith(".npz"):
        dataset = pathlib.Path(recipe.dataset).stem
    methods = [
        name
        for name, used in (
            ("dropblock", recipe.keep_prob < 1),
            ("dropout", recipe.dropout),
            ("spatial_dropout", recipe.spatial_dropout),
            ("stochastic_depth", recipe.survival_prob < 1),
            ("cutout", recipe.cutout),
            ("mixup", recipe.mixup),
            ("label_smoothing", recipe.label_smoothing),
        )
        if used
    ]
    name = "_".join([network_name(recipe), str(dataset), *methods])
    return re.sub("[^a-z0-9]+", "_", name.lower())


def network_name(recipe):
    """The network in lower snake: `wrn_40_2_b313`, `resnet_18_1p5`."""
    name = re.sub(r"[(),]", "", recipe.model.lower()).replace(".", "p")
    return name.replace("-", "_")
