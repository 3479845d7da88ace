"""From work directories to a published model: weights, card and tables."""

import hashlib
import json
import os
import pathlib
import re
import shutil

import numpy as np

from keras_dropblock import assembly, files, finished, fitting
from keras_dropblock.analysis import cam, confusion, pages, plots
from keras_dropblock.analysis.networks import parameters
from keras_dropblock.analysis.scores import scores
from keras_dropblock.models import cards, weights
from keras_dropblock.workdir import write_json

IN_GIT = 25_000_000  # bytes of weights, at most
IN_WHEEL = 2_000_000
_NOT_RUN = "Not run by this project yet."


class PublishError(ValueError):
    """What cannot be published; says why."""


def publish(workdirs, checkout, *, name=None, in_wheel=False, url=None):
    """Publish the runs of one recipe, with one seed or several.

    Writes `models/<name>/` (recipe, metrics, card, pictures), the weights of
    the first work directory, and the registry's entry; draws the tables of
    `models/README.md` and the README anew; and lets the head of
    `training/recipes/<name>.toml` name the card. The weights are scored once
    more before that, and must give what their run says.

    Args:
        workdirs: work directories of `fit`; the weights are the first's.
        checkout: root of the checkout to write to.
        name: of the model, or None for `<model>_<dataset>_<method>`.
        in_wheel: whether the weights travel in the package itself, up to
            2 MB. Else they go to `saved_models/<name>`, up to 25 MB.
        url: from where weights are fetched that are not there, or None. With
            one, they may be larger, and then stay beside the first run, as
            `<name>.weights.h5`: upload that.

    Returns:
        Path of the card's folder.

    Raises:
        workdir.WorkdirError: see `finished.read`.
        PublishError: if the name is wrong or taken, the weights are too
            large or do not give the scores, or it is no checkout.
        data.DataError: if the test set is not there.
    """
    checkout = pathlib.Path(checkout)
    runs = finished.read(workdirs)
    name = _checked_name(name, runs[0].recipe)
    _check_room(checkout, name)
    folder = checkout / "models" / name
    temporary = folder.with_name(f".{os.getpid()}.{name}")
    temporary.mkdir()
    try:
        model = fitting.load_run(runs[0].workdir)[0]
        file = temporary / "model.weights.h5"
        model.save_weights(file)  # without the optimizer's state
        place = _place(checkout, name, file.stat().st_size, in_wheel, url)
        place = place or runs[0].workdir / f"{name}.weights.h5"
        _write_card(temporary, name, runs, model, url)
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(place) as written:
            shutil.move(file, written)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    refresh(checkout)
    _tell_recipe(checkout, name)
    return folder


def refresh(checkout):
    """Make the registry and the tables from `models/*/`, and only those."""
    checkout = pathlib.Path(checkout)
    folders = sorted(
        path.parent for path in checkout.glob("models/[a-z]*/metrics.json")
    )
    metrics = [
        json.loads((folder / "metrics.json").read_text("utf-8"))
        for folder in folders
    ]
    entries = {
        folder.name: cards.Card.from_folder(folder).entry for folder in folders
    }
    write_json(checkout / REGISTRY, entries)
    for page, prefix in (("models/README.md", ""), ("README.md", "models/")):
        files.write_between(
            checkout / page, "models", pages.table(metrics, prefix)
        )


REGISTRY = pathlib.Path("keras_dropblock", "models", cards.REGISTRY.name)


def _checked_name(name, recipe):
    usual = finished.usual_name(recipe)
    name = name or usual
    network = finished.network_name(recipe)
    if not re.fullmatch(f"{network}_[a-z0-9_]+", name):
        raise PublishError(
            "`name` must read <model>_<dataset>_<method>, of a-z, 0-9 and _. "
            f"Received: {name!r}. Did you mean {usual!r}?"
        )
    return name


def _check_room(checkout, name):
    if not (checkout / REGISTRY).is_file():
        raise PublishError(
            f"`checkout` must be the root of a checkout of keras_dropblock. "
            f"Received: {checkout}, which has no {REGISTRY}."
        )
    if (checkout / "models" / name).exists():
        raise PublishError(
            f"models/{name} is there already. Publish under another name; or, "
            "if nobody has used it yet, remove that folder and its weights."
        )


def _place(checkout, name, size, in_wheel, url):
    """Path for the weights; None if they are to be uploaded."""
    folder = checkout / REGISTRY.parent / weights.PACKAGED.name
    others = sum(path.stat().st_size for path in folder.glob("*.h5"))
    size_there = size + (others if in_wheel else 0)
    limit, where = (IN_WHEEL, "wheel") if in_wheel else (IN_GIT, "repository")
    if size_there > limit and (in_wheel or url is None):
        raise PublishError(
            f"The weights would make {size_there:,} bytes, more than the "
            f"{limit:,} that the {where} takes. Publish them "
            f"{'without in_wheel' if in_wheel else 'with a URL'}."
        )
    if in_wheel:
        return folder / f"{name}.weights.h5"
    if size <= IN_GIT:
        return checkout / "saved_models" / name / "model.weights.h5"
    return None


def _write_card(folder, name, runs, model, url):
    """Write all of `models/<name>/` into a folder that has the weights."""
    first, file = runs[0], folder / "model.weights.h5"
    splits = assembly.load(first.recipe)
    batches = assembly.batches(first.recipe, splits, "test")
    logits = model.predict(batches, verbose=0)
    _check_scores(first, scores(logits, batches.labels))
    metrics = {
        "name": name,
        "parameters": parameters(model),
        **finished.summary(runs),
        "weights": {
            "seed": first.recipe.seed,
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": url,
        },
        "test": {"images": batches.count, "sha256": test_digest(splits)},
    }
    recipe = finished.portable(first.recipe)
    recipe.write(folder / "recipe.toml")
    write_json(folder / "metrics.json", metrics)
    page = pages.card_page(metrics, recipe)
    files.write_text(folder / "README.md", page)
    plots.training_curves(first.workdir / "history.csv", folder / "curves.png")
    _draw(folder, model, batches, logits.argmax(1), metrics["class_names"])


def _draw(folder, model, batches, predicted, names):
    matrix = confusion.confusion_matrix(batches.labels, predicted, len(names))
    confusion.draw(matrix, names, folder / "confusion.png")
    images, labels = map(np.asarray, batches.read(0))
    _, firsts = np.unique(labels, return_index=True)  # of each class
    chosen = np.sort(firsts)[:8]
    cam.draw(
        *(model, batches.normalise, images[chosen], labels[chosen], names),
        folder / "cam.png",
    )


def _check_scores(run, found):
    for key, tolerance in (("accuracy", 2e-3), ("nll", 1e-2)):
        if not abs(found[key] - run.scores[key]) <= tolerance:
            raise PublishError(
                f"The weights of {run.workdir} do not give its scores: {key} "
                f"{found[key]:.4f}, and {run.scores[key]:.4f} in metrics.json. "
                "Were the data or the weights exchanged?"
            )


def test_digest(splits):
    """SHA-256 of test images and labels in memory; None of those on disk."""
    if not hasattr(splits, "x_test"):
        return None
    digest = hashlib.sha256(np.ascontiguousarray(splits.x_test))
    digest.update(np.ascontiguousarray(splits.y_test, "<i8"))
    return digest.hexdigest()


def _tell_recipe(checkout, name):
    """Let the head of the recipe name the card."""
    path = checkout / "training" / "recipes" / f"{name}.toml"
    if path.is_file() and _NOT_RUN in (text := path.read_text("utf-8")):
        result = f"Result: models/{name}/README.md."
        files.write_text(path, text.replace(_NOT_RUN, result))
