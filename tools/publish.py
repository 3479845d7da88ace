"""Publish the model of finished runs in this checkout.

    python tools/publish.py --run=DIR --run=DIR ...

writes the card models/NAME/, the weights, the registry entry, the tables of
models and the head of the recipe. Runs must be finished, trained from a clean
commit, and differ only in the seed.

    python tools/publish.py --refresh

regenerates the registry and the tables from models/*/card.json.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import pathlib
import re
import shutil
import statistics
import sys

import numpy as np

import pages
from keras_dropblock import files, hub, runs
from keras_dropblock.analysis.complexity import parameters
from keras_dropblock.data import sources
from keras_dropblock.errors import KerasDropBlockError
from keras_dropblock.hub import registry, weights
from keras_dropblock.report import curves
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.training import evaluation
from keras_dropblock.training.plan import has_validation
from keras_dropblock.training.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
REGISTRY = pathlib.Path("keras_dropblock", "hub", registry.REGISTRY.name)
IN_GIT = 25_000_000  # maximum bytes of weights in the repository, per model
IN_WHEEL = 2_000_000  # maximum bytes of weights in the wheel, in total
_AT_ONCE = 64  # test images in memory at the same time
_NOT_RUN = "Not run by this project yet."
# The keys of a card's metrics that the registry includes.
_IN_REGISTRY = ("n", "scores", "parameters", "weights", "test")


class PublishError(KerasDropBlockError, ValueError):
    """Runs that cannot be published."""


def publish(
    workdirs_,
    checkout=ROOT,
    *,
    name=None,
    in_wheel=False,
    url=None,
    default=False,
):
    """Publish the runs of one recipe, which have one or several seeds.

    The weights of the first run are evaluated again, and must give the scores
    of that run. Then these files are written: `models/<name>/` (recipe, card,
    plots), the weights, the registry entry, the tables of models in
    `models/README.md`, `docs/zoo.md` and the README, and a link to the card in
    the head of the recipe `<name>.toml`.

    Args:
        workdirs_: work directories of `fit`. The first one's weights are
            published.
        checkout: root of the checkout to write to.
        name: name of the model. None: `<model>_<dataset>_<method>`, where
            `<model>` begins with the network of the task, such as `fcn_`.
        in_wheel: whether to ship the weights in the package, which holds up
            to 2 MB in total. If False, they are written to
            `saved_models/<name>`, up to 25 MB.
        url: URL of the weights, or None. With a URL they may be larger; they
            are then written to the first work directory as
            `<name>.weights.h5`, for you to upload.
        default: whether `weights=DATASET` selects this model.

    Returns:
        Path of the card's folder.

    Raises:
        WorkdirError: see `runs.finished`.
        PublishError: if the name is invalid or in use, the weights are too
            large or do not give the scores, `checkout` is not a checkout, or
            `default` is given for another task than classification.
        DataError: if the test set is missing.
    """
    checkout = pathlib.Path(checkout)
    finished = runs.finished(workdirs_)
    first = finished[0]
    recipe = Recipe.from_toml(first.workdir / workdirs.RECIPE)
    name = _checked_name(name, recipe)
    _check_default(default, recipe)
    _check_room(checkout, name)
    folder = checkout / "models" / name
    temporary = folder.with_name(f".{os.getpid()}.{name}")
    temporary.mkdir()
    try:
        model, _ = evaluation.load_run(first.workdir)
        file = temporary / "model.weights.h5"
        model.save_weights(file)  # without the optimizer's state
        place = _place(checkout, name, file.stat().st_size, in_wheel, url)
        place = place or first.workdir / f"{name}.weights.h5"
        card = _card(name, finished, model, recipe, file, url, default)
        _write_card(temporary, card, first, model, recipe)
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(place) as written:
            shutil.move(file, written)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    refresh(checkout)
    _tell_recipe(checkout, name)
    return folder


def refresh(checkout=ROOT):
    """Regenerate registry, tables and pages from the cards in `models/`."""
    checkout = pathlib.Path(checkout)
    cards = [
        hub.Card.from_folder(path.parent)
        for path in sorted(checkout.glob(f"models/[a-z]*/{hub.card.FILE}"))
    ]
    entries = {}
    for card in cards:
        metrics = {key: card.metrics[key] for key in _IN_REGISTRY}
        entry = dataclasses.replace(card, metrics=metrics)
        entries[card.name] = entry.to_dict()
        _write_page(checkout / "models" / card.name, card)
    files.write_json(checkout / REGISTRY, entries)
    for page, table in pages.tables(cards).items():
        files.write_between(checkout / page, "models", table)


def _checked_name(name, recipe):
    usual = usual_name(recipe)
    name = name or usual
    network = network_name(recipe)
    if not re.fullmatch(f"{network}_[a-z0-9_]+", name):
        raise PublishError(
            "`name` must read <model>_<dataset>_<method>, with the characters "
            f"a-z, 0-9 and _. Received: name={name!r}. Did you mean {usual!r}?"
        )
    return name


def _check_default(default, recipe):
    if default and recipe.task.name() != "classification":
        raise PublishError(
            "`default` must be false for other tasks than classification: "
            "weights=DATASET selects the weights of a classifier. Received: "
            f"default=True for the task {recipe.task.name()}."
        )


def _check_room(checkout, name):
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


def _place(checkout, name, size, in_wheel, url):
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


def _card(name, finished, model, recipe, file, url, default):
    """Evaluate the weights again and make the card of the published model."""
    first = finished[0]
    examples = evaluation.Examples(recipe).plan
    _check_scores(first, evaluation.evaluate_model(model, recipe), recipe)
    metrics = {
        "parameters": parameters(model),
        **_summary(finished, recipe.task.metrics),
        "weights": {
            "seed": recipe.seed,
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": url,
        },
        "test": {
            "split": recipe.test_split,
            "images": examples.dataset.size("test"),
            "sha256": test_digest(examples.dataset),
            "each_epoch": not has_validation(recipe),
        },
    }
    return dataclasses.replace(
        model.card,
        name=name,
        dataset=portable(recipe).dataset,
        default=default,
        metrics=metrics,
    )


def _write_card(folder, card, first, model, recipe):
    """Write recipe, card, plots and page into the card's folder."""
    recipe = portable(recipe)
    recipe.write(folder / workdirs.RECIPE)
    card.write(folder)
    metrics = recipe.task.metrics
    curves.draw(
        first.workdir / workdirs.HISTORY, metrics, folder / "curves.png"
    )
    plan = evaluation.Examples(
        Recipe.from_toml(first.workdir / workdirs.RECIPE)
    ).plan
    recipe.task.draw(model, plan.batches("test"), card, folder)
    _write_page(folder, card)


def _write_page(folder, card):
    recipe = Recipe.from_toml(folder / workdirs.RECIPE)
    files.write_text(folder / "README.md", pages.card_page(card, recipe))


def _check_scores(run, found, recipe):
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


def test_digest(dataset):
    """SHA-256 of the test images and labels.

    None for images that are read from disk in every epoch.
    """
    if not hasattr(dataset, "arrays"):
        return None
    images, labels = dataset.arrays["test"]
    digest = hashlib.sha256()
    for rows in _parts(images):
        digest.update(np.ascontiguousarray(rows))
    for rows in _label_parts(labels):
        kind = "<i8" if rows.dtype.kind in "iub" else "<f8"
        digest.update(np.ascontiguousarray(rows, kind))
    return digest.hexdigest()


def _parts(rows):
    """Consecutive parts of an array, or of `Rows` which this reads."""
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _label_parts(labels):
    """Labels as arrays: of classes, of masks, or of each image's objects."""
    if not hasattr(labels, "objects"):
        yield from _parts(labels)
        return
    for found in labels.objects:
        yield np.array(found.size)
        yield from (found.boxes, found.classes, found.crowd, found.area)


def _summary(finished, metrics):
    """The metrics of a card: scores, runs and training."""
    first = finished[0]
    sessions = [s for run in finished for s in run.sessions]
    shared = ("commit", "backend", "versions")
    return {
        "n": len(finished),
        "seeds": [run.recipe["seed"] for run in finished],
        "scores": {
            metric.name: _mean_and_std(
                [run.scores[metric.name] for run in finished]
            )
            for metric in metrics
        },
        "runs": [
            {
                "seed": run.recipe["seed"],
                **files.for_json(run.scores),
                "hours": _mean([run.hours], 4),
                "images_per_second": _mean([run.images_per_second], 1),
            }
            for run in finished
        ],
        "training": {
            "images": first.training_images,
            "hours": _mean([run.hours for run in finished], 4),
            "images_per_second": _mean(
                [run.images_per_second for run in finished], 1
            ),
            "devices": sorted({d for s in sessions for d in s["devices"]}),
            **{key: sessions[0][key] for key in ("machine", "cpus", *shared)},
            "started": min(session["started"] for session in sessions),
            "finished": max(run.finished_at for run in finished),
        },
    }


def _mean_and_std(values):
    """Mean and sample standard deviation, which is None for one value.

    Both are None if a value is not finite.
    """
    if not all(map(math.isfinite, values)):
        return {"mean": None, "std": None}
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std}


def _mean(values, digits):
    """Rounded mean of the values that are not None. None if all are None."""
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), digits) if known else None


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


def _tell_recipe(checkout, name):
    """Add a link to the card to the head of the recipe."""
    for path in checkout.glob(f"training/recipes/**/{name}.toml"):
        if _NOT_RUN in (text := path.read_text("utf-8")):
            result = f"Result: models/{name}/README.md."
            files.write_text(path, text.replace(_NOT_RUN, result))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--run", action="append", default=[], help="work directory of a run")
    add("--name", help="default: <model>_<dataset>_<method>")
    add("--checkout", default=ROOT, help="root of the checkout to write to")
    add(
        "--in_wheel",
        action="store_true",
        help="ship the weights, up to 2 MB, in the package",
    )
    add("--url", help="URL of the weights")
    add(
        "--default",
        action="store_true",
        help="weights=DATASET selects this model",
    )
    add(
        "--refresh",
        action="store_true",
        help="only regenerate the registry, the tables and the pages",
    )
    flags = parser.parse_args()
    try:
        if flags.refresh:
            refresh(flags.checkout)
            return
        folder = publish(
            flags.run,
            flags.checkout,
            name=flags.name,
            in_wheel=flags.in_wheel,
            url=flags.url,
            default=flags.default,
        )
    except KerasDropBlockError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(
        f"Card: {folder / 'README.md'}. Read it, run "
        "tests/test_published.py, and commit all files that git status shows."
    )


if __name__ == "__main__":
    main()
