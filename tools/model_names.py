"""The names of published models, and recipes without paths of a machine."""

import dataclasses
import os
import pathlib
import re

from keras_dropblock.data import sources


def portable(recipe):
    """A copy of a recipe without the paths of the machine that ran it.

    The last part of a path stays: `masks:/data/CamVid` becomes
    `masks:CamVid`.
    """
    start, path = sources.divided(recipe.dataset)
    task = recipe.task
    weights_ = getattr(task, "initial_weights", None)
    # A file may be gone by now, but its path is still in the recipe.
    if weights_ and (os.path.isabs(weights_) or os.path.exists(weights_)):
        last = _last_part(weights_)
        task = dataclasses.replace(task, initial_weights=last)
    return dataclasses.replace(
        recipe,
        task=task,
        dataset=start + (_last_part(path) if path else ""),
        data_dir=None,
    )


def _last_part(path):
    return pathlib.Path(os.path.abspath(path)).name


def usual_name(recipe):
    """The default name `<model>_<dataset>_<method>`, in lower snake case."""
    start, path = sources.divided(recipe.dataset)
    dataset = re.split("[:/]", start)[0]
    if path:
        dataset = _last_part(path).removesuffix(".npz")
    flat = recipe.flat()
    methods = [
        name
        for name, used in (
            ("dropblock", recipe.keep_prob < 1),
            ("head_dropblock", flat.get("head_keep_prob", 1.0) < 1),
            ("dropout", recipe.dropout),
            ("spatial_dropout", recipe.spatial_dropout),
            ("shortcut_dropout", recipe.shortcut_dropout),
            ("stochastic_depth", recipe.survival_prob < 1),
            ("cutout", recipe.cutout),
            ("mixup", flat.get("mixup")),
            ("label_smoothing", flat.get("label_smoothing")),
        )
        if used
    ]
    name = "_".join([network_name(recipe), dataset, *methods])
    return re.sub("[^a-z0-9]+", "_", name.lower())


def network_name(recipe):
    """The network in lower snake case: `wrn_40_2_b313`, `resnet_18_1p5`.

    The network of another task than classification comes first:
    `fcn_resnet_50`, `retinanet_resnet_50`.
    """
    name = re.sub(r"[(),]", "", recipe.model.lower()).replace(".", "p")
    name = name.replace("-", "_")
    heads = {
        "detection": "retinanet_",
        "segmentation": f"{recipe.flat().get('head')}_",
    }
    return heads.get(recipe.task.name(), "") + name
