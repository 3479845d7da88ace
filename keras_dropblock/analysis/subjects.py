"""Subjects of the studies: classifiers with images; settings and files."""

import dataclasses
import pathlib
import typing

import numpy as np

from keras_dropblock import files, models
from keras_dropblock.analysis.robustness import KEEP_PROBS


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained classifier, and the images to study it with.

    Attributes:
        name: name of the model or run.
        label: name of the line in plots. Subjects with the same label are
            averaged: they differ only in the seed.
        model: `keras.Model` with logits.
        normalize: function from uint8 images to normalized ones.
        images, labels: uint8 array (images, height, width, channels) of test
            images, and their classes.
        class_names: one name for each class.
        validation: (images, labels) of a validation split, or None.
        unknown: dict from a name to uint8 images of unknown classes.
    """

    name: str
    label: str
    model: typing.Any
    normalize: typing.Callable
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    validation: tuple | None = None
    unknown: dict = dataclasses.field(default_factory=dict)

    def inputs(self, images):
        """The model's input for uint8 images."""
        x = self.normalize(images)
        first = models.data_format(self.model) == "channels_first"
        return np.moveaxis(x, -1, 1) if first else x

    def rows(self, rows, method=None):
        """Rows that begin with the label and the name of this subject.

        Args:
            rows: list of dicts.
            method: what was done with the subject; a part of the label.
        """
        label = f"{self.label}, {method}" if method else self.label
        return [{"label": label, "name": self.name, **row} for row in rows]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the studies.

    Attributes:
        keep_probs, block_sizes: see `robustness.score_under_dropblock`.
        samples: predictions of each image in Monte Carlo, int >= 1.
        about: dict for the JSON files: versions, date and so on.
    """

    keep_probs: tuple[float, ...] = KEEP_PROBS
    block_sizes: tuple[int, ...] = (1, 7)
    samples: int = 20
    about: dict = dataclasses.field(default_factory=dict)


def over_runs(rows, by=()):
    """Average rows of subjects with the same label.

    Args:
        rows: list of dicts with the key `label`.
        by: further keys whose values stay apart.

    Returns:
        A list of dicts: `label`, the keys in `by`, the number of rows `n`,
        and for each number NAME of the rows its mean NAME and its standard
        deviation NAME_std_over_runs (ddof = 1). NaN are left out; a deviation
        of fewer than two numbers is NaN.
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in ("label", *by)), []).append(row)
    result = []
    for values, members in groups.items():
        found = dict(zip(("label", *by), values, strict=True))
        found["n"] = len(members)
        for name, value in members[0].items():
            if name in found or isinstance(value, str) or name[-4:] == "_std":
                continue
            numbers = np.array([row[name] for row in members], "float64")
            numbers = numbers[np.isfinite(numbers)]
            several = len(numbers) > 1
            found[name] = numbers.mean() if len(numbers) else float("nan")
            std = numbers.std(ddof=1) if several else float("nan")
            found[f"{name}_std_over_runs"] = std
        result.append(found)
    return result


def write(folder, name, title, rows, subjects, settings, **more):
    """Write the rows of a study, and a JSON file that says what they are.

    Args:
        folder: folder to write to.
        name: name of the files, without suffix.
        title: title of the study.
        rows: list of dicts with the same keys.
        subjects: the `Subject`s.
        settings: the `Settings`.
        **more: further items of the JSON file.
    """
    folder = pathlib.Path(folder)
    labels = [subject.label for subject in subjects]
    files.write_csv(folder / f"{name}.csv", rows)
    files.write_json(
        folder / f"{name}.json",
        {
            "title": title,
            **settings.about,
            **more,
            "images": min(len(subject.images) for subject in subjects),
            "n": {label: labels.count(label) for label in labels},
        },
    )
