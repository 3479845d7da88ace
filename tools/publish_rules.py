"""What may be published: names, sizes of weights, and scores."""

import math
import pathlib
import re

import model_names
from keras_dropblock.errors import KerasDropBlockError
from keras_dropblock.hub import registry, weights

REGISTRY = pathlib.Path("keras_dropblock", "hub", registry.REGISTRY.name)
IN_GIT = 25_000_000  # maximum bytes of weights in the repository, per model
IN_WHEEL = 2_000_000  # maximum bytes of weights in the wheel, in total


class PublishError(KerasDropBlockError, ValueError):
    """Runs that cannot be published."""


def checked_name(name, recipe):
    """The name of the model, or the usual one for None."""
    usual = model_names.usual_name(recipe)
    name = name or usual
    network = model_names.network_name(recipe)
    if not re.fullmatch(f"{network}_[a-z0-9_]+", name):
        raise PublishError(
            "`name` must read <model>_<dataset>_<method>, with the characters "
            f"a-z, 0-9 and _. Received: name={name!r}. Did you mean {usual!r}?"
        )
    return name


def check_default(default, recipe):
    """Only a classifier may be the default."""
    if default and recipe.task.name() != "classification":
        raise PublishError(
            "`default` must be false for other tasks than classification: "
            "weights=DATASET selects the weights of a classifier. Received: "
            f"default=True for the task {recipe.task.name()}."
        )


def check_room(checkout, name):
    """`checkout` must be one, and must not have a model of this name."""
    if not (checkout / REGISTRY).is_file():
        raise PublishError(
            "`checkout` must be the root of a checkout of keras_dropblock. "
            f"Received: checkout={checkout}, which has no {REGISTRY}."
        )
    if (checkout / "models" / name).exists():
        raise PublishError(
            f"models/{name} already exists. Use another name. If that model "
            "was never released, you can delete its folder and weights."
        )


def place(checkout, name, size, in_wheel, url):
    """Path for the weights. None if they must be uploaded to a URL."""
    folder = checkout / REGISTRY.parent / weights.PACKAGED.name
    others = sum(path.stat().st_size for path in folder.glob("*.h5"))
    size_there = size + (others if in_wheel else 0)
    limit, where = (IN_WHEEL, "wheel") if in_wheel else (IN_GIT, "repository")
    if size_there > limit and (in_wheel or url is None):
        raise PublishError(
            f"The {where} must hold at most {limit:,} bytes of weights. "
            f"Received: {size_there:,} bytes. Publish them "
            f"{'without in_wheel' if in_wheel else 'with a URL'}."
        )
    if in_wheel:
        return folder / f"{name}.weights.h5"
    if size <= IN_GIT:
        return checkout / "saved_models" / name / "model.weights.h5"
    return None


def check_scores(run, found, recipe):
    """The scores `found` must be those of a finished run."""
    for metric in recipe.task.metrics:
        here, there = found[metric.name], run.scores[metric.name]
        if math.isnan(here) and math.isnan(there):
            continue  # nothing to measure, as AP without any object
        if not abs(here - there) <= metric.tolerance:
            raise PublishError(
                f"The weights of {run.workdir} do not give its scores: "
                f"{metric.name} is {here:.4f}, but {there:.4f} in "
                "metrics.json. Were the data or the weights replaced?"
            )
