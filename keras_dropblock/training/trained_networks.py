"""Trained networks with their test images, for studies."""

import dataclasses
import pathlib

import numpy as np

from keras_dropblock.analysis.objects import SceneSubject
from keras_dropblock.analysis.subjects import Subject
from keras_dropblock.errors import WeightsError
from keras_dropblock.training import evaluation, plan


def is_run(source):
    """Whether a source is the work directory of a run."""
    return pathlib.Path(source, "run.json").is_file()


def read(
    source, labels, *, images=1000, unknown=None, objects=None, layer=None
):
    """Read a trained network and evenly spaced test images.

    Args:
        source: work directory of a run, or a source for `hub.load`.
        labels: dict from recipes without their seed to labels, which is
            changed: runs that differ only in the seed get the same label.
        images: number of test images, int >= 1.
        unknown: names of data sets with images of unknown classes. Noise is
            added to them. None: no unknown images.
        objects: names of classes of objects, for detectors and segmentation
            networks. None: all.
        layer: name of the layer whose maps are studied, for detectors and
            segmentation networks. None: that of the task.

    Returns:
        `Subject` of a classifier, `SceneSubject` of another network.

    Raises:
        WeightsError: if the source has no card, has a task that cannot be
            studied, or does not have one of the `objects`.
        KerasDropBlockError: another subclass, if it cannot be loaded.
    """
    name, label = pathlib.Path(source).name, source
    if is_run(source):
        model, recipe = evaluation.load_run(source, "float32")
        key = str(sorted(recipe.override(["seed=0"]).flat().items()))
        label = labels.setdefault(key, name)
    else:
        model, recipe = evaluation.load_source(source)
    examples = evaluation.Examples(recipe)
    common = {
        "name": name,
        "label": label,
        "model": model,
        "normalize": model.card.normalize,
        "class_names": model.card.class_names,
    }
    if model.card.task != "classification":
        task, dataset = examples.plan.recipe.task, examples.plan.dataset
        _check_objects(task, common, objects)
        return _scenes(task, dataset, common, images, objects, layer)
    pixels, classes = examples.of("test", images)
    validation = None
    if "validation" in examples.plan.dataset.splits:
        validation = examples.of("validation", images)
    return Subject(
        **common,
        images=pixels,
        labels=classes,
        validation=validation,
        unknown=_unknown(model.card, pixels.shape, unknown),
    )


def _check_objects(task, common, objects):
    if task.explained_layer is None:
        raise WeightsError(
            f"{common['name']} must be a classifier, a detector or a "
            f"segmentation network. Its task is {task.name()}."
        )
    names = common["class_names"]
    missing = [x for x in objects or () if x not in names]
    if missing:
        raise WeightsError(
            f"`objects` must be some of {', '.join(names)}. Received: "
            f"{', '.join(missing)}."
        )


def _scenes(task, dataset, common, images, objects, layer):
    pixels, labels = dataset.spaced("test", images)
    return SceneSubject(
        **common,
        images=pixels[:],
        labels=np.zeros(len(pixels), int),
        layer=layer or task.explained_layer,
        objects=tuple(
            found
            for found in task.objects(common["class_names"], labels)
            if objects is None or found.name in objects
        ),
    )


def _unknown(card, shape, names):
    """Images of unknown classes: a dict from the name to uint8 images."""
    if names is None:
        return {}
    rng = np.random.default_rng(0)
    images = {"noise": rng.integers(0, 256, shape, "uint8")}
    for name in names:
        recipe = plan.recipe_of(
            dataclasses.replace(card, dataset=name, data_options={})
        )
        other = evaluation.Examples(
            dataclasses.replace(recipe, test_split="test")
        )
        images[name] = other.of("test", shape[0])[0]
    return images
