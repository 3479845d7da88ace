"""Read the work directories of runs."""

import csv
import pathlib
import statistics

from keras_dropblock import keys
from keras_dropblock.errors import WorkdirError
from keras_dropblock.hub import Card
from keras_dropblock.runs import workdir as names


class Run:
    """A run, read from its work directory. It may be unfinished.

    Args:
        workdir: work directory of a run that has begun.

    Attributes:
        workdir: the folder, `pathlib.Path`.
        recipe: the resolved recipe, a flat dict.
        info: contents of `run.json`.
        card: `hub.Card`.
        history: rows of `history.csv`, one for each finished epoch, each a
            dict of strings.
        scores: contents of `metrics.json`. None until the run is finished.

    Raises:
        WorkdirError: if `workdir` is not a work directory of a run that has
            begun.
    """

    def __init__(self, workdir):
        self.workdir = pathlib.Path(workdir)
        for name in (names.RECIPE, names.RUN):
            if not (self.workdir / name).exists():
                raise WorkdirError(
                    f"{workdir} is not a work directory of a run that has "
                    f"begun: {name} is missing."
                )
        path = self.workdir / names.RECIPE
        self.recipe = keys.parse(path.read_text("utf-8"), str(path))
        self.info = self._json(names.RUN)
        self.card = Card.from_folder(self.workdir)
        self.history = self._history()
        self.scores = None
        if (self.workdir / names.METRICS).exists():
            self.scores = self._json(names.METRICS)

    def _json(self, name):
        return names.read_json(self.workdir / name)

    def _history(self):
        path = self.workdir / names.HISTORY
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def is_finished(self):
        """Whether all epochs are done and the final scores are written."""
        done = len(self.history) == self.recipe["epochs"]
        return done and self.scores is not None

    @property
    def training_images(self):
        """Number of training images per epoch."""
        if "images" not in self.info:  # version 0.1
            return self.info["training_images"]
        return self.info["images"]["train"]

    @property
    def images_per_second(self):
        """Training speed: the median over the epochs.

        None if no epoch has enough steps to measure it.
        """
        speeds = [float(row["images_per_second"]) for row in self.history]
        speeds = [speed for speed in speeds if speed > 0]
        return statistics.median(speeds) if speeds else None

    @property
    def hours(self):
        """Hours of training at the median speed. None if it is unknown."""
        speed = self.images_per_second
        images = self.training_images * self.recipe["epochs"]
        return None if speed is None else images / speed / 3600

    @property
    def seconds(self):
        """Total seconds of all sessions. None if one was interrupted."""
        seconds = [session.get("seconds") for session in self.sessions]
        return None if None in seconds else sum(seconds)

    @property
    def sessions(self):
        """A dict for each start or resume: versions, devices, commit, times."""
        return self.info["sessions"]

    @property
    def finished_at(self):
        """When the last session ended or, if it was interrupted, started."""
        last = self.sessions[-1]
        return last.get("finished", last["started"])


def finished(workdirs, keys=("commit", "backend", "versions")):
    """Read finished runs that differ only in the seed.

    Args:
        workdirs: work directories, at least one.
        keys: keys of a session that must be equal in all sessions of all
            runs.

    Returns:
        A list of `Run`, in the order of the work directories.

    Raises:
        WorkdirError: if a run is not finished, was not trained from a clean
            commit, or differs from the others in more than the seed.
    """
    runs = [Run(workdir) for workdir in workdirs]
    if not runs:
        raise WorkdirError("There must be at least one work directory.")
    for run in runs:
        _check_finished(run)
        _check_commit(run)
    first = runs[0]
    for run in runs:  # including the first: its own sessions may differ
        _check_alike(first, run, keys)
    seeds = [run.recipe["seed"] for run in runs]
    if len({*seeds}) < len(seeds):
        raise WorkdirError(
            "All runs must have different seeds. Received: seeds "
            f"{', '.join(map(str, seeds))}."
        )
    return runs


def _check_finished(run):
    if not run.is_finished:
        raise WorkdirError(
            f"{run.workdir} is not finished: {len(run.history)} of "
            f"{run.recipe['epochs']} epochs are done, and {names.METRICS} is "
            "written after the last one. Resume the run."
        )


def _check_commit(run):
    for session in run.sessions:
        commit = session["commit"]
        if commit is None or commit.endswith("with changes"):
            raise WorkdirError(
                f"{run.workdir} was not trained from a clean commit (commit: "
                f"{commit}). Commit the changes and train again from that "
                "checkout."
            )


def _check_alike(first, run, keys):
    ours, theirs = (
        {
            **one.recipe,
            "seed": 0,
            "class_names": one.card.class_names,
            "preprocessing": one.card.preprocessing,
        }
        for one in (first, run)
    )
    different = [
        key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)
    ]
    for key in keys:
        values = [s[key] for one in (first, run) for s in one.sessions]
        if any(value != values[0] for value in values):
            different.append(key)
    if different:
        raise WorkdirError(
            f"The runs must differ only in the seed. {run.workdir} differs "
            f"from {first.workdir} in {', '.join(different)}."
        )
