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
import os
import pathlib
import shutil
import sys

import card_metrics
import model_names
import pages
import publish_rules
from keras_dropblock import files, hub, runs
from keras_dropblock.analysis.complexity import parameters
from keras_dropblock.errors import KerasDropBlockError
from keras_dropblock.hub import weights
from keras_dropblock.report import curves
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.training import evaluation
from keras_dropblock.training.plan import has_validation
from keras_dropblock.training.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
_NOT_RUN = "Not run by this project yet."
# The keys of a card's metrics that the registry includes.
_IN_REGISTRY = ("n", "scores", "parameters", "weights", "test")


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
    name = publish_rules.checked_name(name, recipe)
    publish_rules.check_default(default, recipe)
    publish_rules.check_room(checkout, name)
    folder = checkout / "models" / name
    temporary = folder.with_name(f".{os.getpid()}.{name}")
    temporary.mkdir()
    try:
        model, _ = evaluation.load_run(first.workdir)
        file = temporary / "model.weights.h5"
        model.save_weights(file)  # without the optimizer's state
        size = file.stat().st_size
        place = publish_rules.place(checkout, name, size, in_wheel, url)
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
    files.write_json(checkout / publish_rules.REGISTRY, entries)
    for page, table in pages.tables(cards).items():
        files.write_between(checkout / page, "models", table)


def _card(name, finished, model, recipe, file, url, default):
    """Evaluate the weights again and make the card of the published model."""
    first = finished[0]
    examples = evaluation.Examples(recipe).plan
    found = evaluation.evaluate_model(model, recipe)
    publish_rules.check_scores(first, found, recipe)
    metrics = {
        "parameters": parameters(model),
        **card_metrics.summary(finished, recipe.task.metrics),
        "weights": {
            "seed": recipe.seed,
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": url,
        },
        "test": {
            "split": recipe.test_split,
            "images": examples.dataset.size("test"),
            "sha256": card_metrics.test_digest(examples.dataset),
            "each_epoch": not has_validation(recipe),
        },
    }
    return dataclasses.replace(
        model.card,
        name=name,
        dataset=model_names.portable(recipe).dataset,
        default=default,
        metrics=metrics,
    )


def _write_card(folder, card, first, model, recipe):
    """Write recipe, card, plots and page into the card's folder."""
    recipe = model_names.portable(recipe)
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
