"""Share of the activation map of a class that lies on its objects."""

import dataclasses
import functools
import pathlib
import typing

import keras
import numpy as np

from keras_dropblock.analysis import charts
from keras_dropblock.analysis.gradcam import grad_cam
from keras_dropblock.analysis.spread import measure_spread, summarize
from keras_dropblock.analysis.subjects import Subject, over_runs, write

_LEAST = 0.01  # of an image that an object must cover
_PICTURES = 6  # images in the plot of maps
_BATCH = 16  # images in one call of a network
_DETECTED = 0.05  # score of an anchor, as for detections


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of one class in the images of a `Subject`.

    Attributes:
        name: name of the class.
        score: function from the network's outputs to a tensor (images,) that
            Grad-CAM explains.
        find: function that returns a bool array (images, height, width),
            True on the objects.
    """

    name: str
    score: typing.Callable
    find: typing.Callable

    @functools.cached_property
    def chosen(self):
        """Indices of the images in which they cover 1 % or more."""
        return np.flatnonzero(self.find().mean((1, 2)) >= _LEAST)


@dataclasses.dataclass(frozen=True)
class SceneSubject(Subject):
    """A trained detector or segmentation network, and images with objects.

    Attributes:
        layer: name of the layer whose maps are studied.
        objects: one `Objects` for each class.
    """

    layer: str | None = None
    objects: tuple[Objects, ...] = ()


def predicted_pixels(index):
    """A score of a segmentation: the logits of a class over its pixels.

    Pixels that the network gives to another class do not count.

    Args:
        index: index of the class.

    Returns:
        A function from logits (images, height, width, classes) to a tensor
        (images,), for `grad_cam`.

    Reference:
        Vinogradova et al. 2020, "Towards interpretable semantic segmentation
        via gradient-weighted class activation mapping",
        https://arxiv.org/abs/2002.11434.
    """

    def score(logits):
        won = keras.ops.argmax(logits, -1) == index
        return _total(logits[..., index], won)

    return score


def detected_anchors(index):
    """A score of a RetinaNet: the logits of a class over its anchors.

    Anchors whose probability of the class is below 0.05 do not count: no
    detection comes from them.

    Args:
        index: index of the class.

    Returns:
        A function from the outputs of the network to a tensor (images,).
    """

    def score(outputs):
        logits = outputs["cls_logits"][..., index]
        return _total(logits, keras.ops.sigmoid(logits) >= _DETECTED)

    return score


def _total(logits, counted):
    """The sum over all axes but the first of the logits that count."""
    kept = keras.ops.where(counted, logits, keras.ops.zeros_like(logits))
    return keras.ops.sum(keras.ops.reshape(kept, (kept.shape[0], -1)), axis=1)


def study_objects(subjects, folder, settings):
    """Where networks look for the objects of each class.

    It writes three studies. `maps` has pictures, and a row for each network
    and class. `spread` has the mean and standard deviation over networks that
    differ only in the seed. `inside` is a plot.

    Raises:
        ValueError: if no class covers 1 % of an image.
    """
    rows = []
    for subject in subjects:
        for objects in subject.objects:
            if len(objects.chosen):
                maps = _maps(subject, objects, objects.chosen)
                rows += subject.rows([_row(objects, maps)])
    _draw_first(subjects, pathlib.Path(folder, "maps.png"))
    panels = [
        charts.Panel(title, "object", "share", charts.series(rows, "object", y))
        for title, y in (
            ("Share of the map on the object", "inside"),
            ("Share of the image that it covers", "covered"),
        )
    ]
    charts.draw(panels, pathlib.Path(folder, "inside.png"))
    title = "Where the networks look for objects"
    write(folder, "maps", title, rows, subjects, settings)
    title = "How far the maps spread, over runs"
    averages = over_runs(rows, ("object",))
    write(folder, "spread", title, averages, subjects, settings)


def _draw_first(subjects, path):
    """Draw the maps of the first class that is on an image."""
    first = subjects[0]
    found = [i for i, x in enumerate(first.objects) if len(x.chosen)]
    if not found:
        names = ", ".join(objects.name for objects in first.objects)
        raise ValueError(
            f"An object must cover at least {100 * _LEAST:g} % of an image "
            f"to be studied. Received: {len(first.images)} images of "
            f"{first.name}, none with such an object of the classes {names}. "
            "Choose other classes with --objects, or more images with --images."
        )
    index = found[0]
    objects = first.objects[index]
    shown = objects.chosen[:_PICTURES]
    names = [objects.name] * len(shown)
    drawn = [
        (subject.name, _maps(subject, subject.objects[index], shown), names)
        for subject in subjects
    ]
    masks = objects.find()[shown]
    charts.draw_maps(first.images[shown], names, drawn, path, masks=masks)


def _maps(subject, objects, chosen):
    return grad_cam(
        subject.model,
        subject.inputs(subject.images[chosen]),
        layer=subject.layer,
        score=objects.score,
        by_position=True,
        batch_size=_BATCH,
    )


def _row(objects, maps):
    masks = objects.find()[objects.chosen]
    summary = summarize(measure_spread(maps, masks))
    covered = float(masks.mean())
    return {"object": objects.name, "covered": covered, **summary}
