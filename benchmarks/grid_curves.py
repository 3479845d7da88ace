"""Validation accuracy of every epoch, at every point of a grid, in a file.

The points are trained one after another. The file belongs to one recipe and
one version of the code.
"""

import json
import pathlib
import time

import keras

import records
from keras_dropblock import files
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.schedules import BY_NAME
from keras_dropblock.search import space
from keras_dropblock.search.planned import folder_name
from keras_dropblock.training import plan, trainer
from keras_dropblock.training.callbacks import EpochOfData, KeepProbOfRun
from keras_dropblock.training.recipe import Recipe

TABLE = pathlib.Path(__file__).parent / "results" / "search_cost.json"
RECIPE = Recipe(
    model="WRN-10-1",
    block_size=3,
    dataset="digits",
    validation_split=0.3,
    epochs=9,
    batch_size=64,
    learning_rate_schedule="cosine",
)
GRID = {
    "keep_prob": "float(0.6, 0.9, step=0.1)",
    "dropblock_groups": "choice([3], [2, 3])",
}
SEEDS = (0, 1, 2)


class Trainers:
    """One compiled model for each set of groups with DropBlock.

    Compiling takes longer than training. A run on a compiled model starts
    with the weights, keep_prob and seeds of a new one, and an optimizer
    without momentum.
    """

    def __init__(self):
        self._trainers = {}

    def of(self, resolved):
        recipe = resolved.recipe
        key = recipe.dropblock_groups
        if key not in self._trainers:
            self._trainers[key] = trainer.Trainer(resolved)
        one = self._trainers[key]
        keras.utils.set_random_seed(recipe.seed)
        new = resolved.card.build()
        for ours, theirs in zip(
            one.model.variables, new.variables, strict=True
        ):
            ours.assign(theirs)
        for variable in one.model.optimizer.variables:
            if "learning_rate" not in variable.name:
                variable.assign(keras.ops.zeros_like(variable))
        for ours, theirs in zip(
            dropblock_layers(one.model), dropblock_layers(new), strict=True
        ):
            ours.final_keep_prob = theirs.final_keep_prob
        return one.model


def curve(recipe, trainers):
    """Validation accuracy after each epoch."""
    resolved = plan.resolve(recipe)
    model = trainers.of(resolved)
    train = resolved.training_batches()
    validation = resolved.scoring_batches("validation")
    scores = []

    def score(epoch, logs):
        result = model.evaluate(validation, return_dict=True, verbose=0)
        scores.append(round(result["accuracy"], 5))

    model.fit(
        train,
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            EpochOfData(train),
            KeepProbOfRun(BY_NAME[recipe.schedule], train),
            keras.callbacks.LambdaCallback(on_epoch_end=score),
        ],
    )
    return scores


def points():
    """(seed, values of the keys) of the grid, for each seed."""
    dimensions = space.checked(RECIPE, GRID)
    for seed in SEEDS:
        for point in space.points({k: d.grid() for k, d in dimensions.items()}):
            yield seed, dict(zip(GRID, point, strict=True))


def _structure(point):
    _, values = point
    return values["dropblock_groups"]


def name_of(seed, values):
    """Name of a point in the file."""
    return folder_name(RECIPE, {**values, "seed": seed})


def train_all(minutes):
    """Train the points that are not in the file yet.

    Args:
        minutes: time after which no further point is started.

    Returns:
        A dict from the name of each point to its curve.

    Raises:
        SystemExit: if the file is of another recipe or commit.
    """
    end = time.monotonic() + 60 * minutes
    recipe = RECIPE.to_toml()
    table = {**records.record(), "recipe": recipe, "curves": {}}
    if TABLE.exists():
        known = json.loads(TABLE.read_text("utf-8"))
        complete = all(name_of(*point) in known["curves"] for point in points())
        for key in ("recipe",) if complete else ("recipe", "commit"):
            if known[key] != table[key]:
                raise SystemExit(
                    f"{TABLE} has another {key}. Delete it to train again. "
                    f"Found: {known[key]}. Expected: {table[key]}."
                )
        table = known
    curves = table["curves"]
    trainers = Trainers()
    for seed, values in sorted(points(), key=_structure):
        name = name_of(seed, values)
        if name not in curves and time.monotonic() < end:
            recipe = RECIPE.replaced({**values, "seed": seed}, "grid")
            curves[name] = curve(recipe, trainers)
            files.write_json(TABLE, table)
            print(name, curves[name], flush=True)
    return curves
