"""Train and evaluate the model that a recipe describes."""

import contextlib
import dataclasses
import json
import pathlib

import keras

from keras_dropblock import files
from keras_dropblock.analysis.complexity import parameters
from keras_dropblock.errors import RecipeError
from keras_dropblock.report import curves
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.training import (
    compilation,
    loop,
    plan,
    processes,
    strategies,
)
from keras_dropblock.training.checkpoint import Checkpoint, Place


class Trainer:
    """The compiled model and the batches of a plan.

    Args:
        plan_: `plan.Plan`.

    Attributes:
        train: `data.Batches` to train on.
        scored: `data.Batches` to evaluate after each epoch. None: nothing.
        model: the compiled model.
    """

    def __init__(self, plan_):
        recipe = plan_.recipe
        self.plan = plan_
        keras.utils.set_random_seed(recipe.seed)
        self.train = plan_.training_batches()
        self.scored = plan_.scoring_batches(plan_.epoch_split)
        self._copy = None
        with (
            compilation.policy(recipe.dtype),
            strategies.scope(recipe.strategy),
        ):
            self.model = plan_.model(steps_per_epoch=len(self.train))
        if recipe.strategy == "data_parallel" and processes.is_first():
            with compilation.policy(recipe.dtype):
                self._copy = plan_.model(steps_per_epoch=len(self.train))

    @property
    def recipe(self):
        """The resolved recipe."""
        return self.plan.recipe

    @contextlib.contextmanager
    def on_one_device(self):
        """A context in which one process can use the model alone.

        Enter it at the end of an epoch or of the training. It yields the
        model; under `strategy` data_parallel it yields a copy with the same
        weights on one device.
        """
        if self._copy is None:
            yield self.model
            return
        self._copy.set_weights(self.model.get_weights())
        with strategies.one_device():
            yield self._copy

    def scores(self):
        """Evaluate the test split and the validation split, if there is one.

        Returns:
            A dict of the task's scores on the test split. With a validation
            split, the key `validation` holds a dict of its scores.
        """
        splits = ["test"]
        if self.plan.epoch_split == "validation":
            splits.append("validation")
        with self.on_one_device() as model:
            scores = {
                split: self.recipe.task.evaluate(
                    model, self.plan.scoring_batches(split)
                )
                for split in splits
            }
        result = scores.pop("test")
        return {**result, **scores}


def fit(
    recipe,
    workdir,
    *,
    verbose="auto",
    checkpoint_minutes=10.0,
    callbacks=(),
    score_epochs=True,
):
    """Train the model of a recipe, or resume a run that stopped.

    The resolved recipe, the card and the package versions are written before
    the first step. After each epoch, `history.csv`, `curves.png`,
    `model.weights.h5` and a checkpoint are written and, on TensorFlow with
    TensorBoard installed, its logs. Further checkpoints are saved within an
    epoch. `metrics.json` is written at the end.

    Call it again with the same work directory to resume from the last
    checkpoint. The result equals that of an uninterrupted run. A finished run
    is only evaluated again.

    With a validation split, each epoch evaluates the validation split, and
    the test split is evaluated once, at the end. Without one, each epoch
    evaluates the test split. The result is always that of the last epoch, not
    of the best one.

    In the main thread, SIGTERM and Ctrl-C save a checkpoint after the current
    step and stop the run. A second signal stops it immediately.

    To train one model in several processes, call `processes.join` and then
    this function in every process, with `strategy` data_parallel. Only the
    primary process needs access to the work directory.

    Args:
        recipe: `Recipe`.
        workdir: folder of the run. It is created if it does not exist.
        verbose: as in `keras.Model.fit`. `"auto"` shows a progress bar on a
            terminal and prints one line per epoch elsewhere.
        checkpoint_minutes: minimum time between checkpoints within an epoch,
            >= 0; 0 saves one after every step. It does not change the result.
        callbacks: further Keras callbacks. At the end of an epoch they are
            called after its files and its checkpoint are written.
        score_epochs: whether each epoch evaluates a split. False: only the
            end of the run does.

    Returns:
        A dict from the names of the task's metrics to scores on the test
        split, with the number of images as `images`. With a validation split,
        `validation` holds the same dict for that split.

    Raises:
        WorkdirError: if the work directory belongs to another recipe, is in
            use, or holds a run without a usable checkpoint.
        RecipeError: if the recipe does not fit its data, network or backend.
        DataError: if the data are missing.
        Interrupted: after SIGTERM or Ctrl-C.
        DivergedError: if the loss or the weights become NaN or infinite.
        WriteError: if the disk is full. The last checkpoint is kept.
        PeerLostError: if another process stops.
    """
    workdir = pathlib.Path(workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.peer_failures_raised())
        resolved = plan.resolve(recipe, name=workdir.resolve().name)
        _require_same(resolved)
        trainer = Trainer(resolved)
        processes.in_first(
            lambda: stack.enter_context(
                workdirs.taken(workdir, resolved.recipe)
            )
        )
        if not score_epochs:
            trainer.scored = None
        return _fit(trainer, workdir, verbose, checkpoint_minutes, callbacks)


def _fit(trainer, workdir, verbose, checkpoint_minutes, callbacks):
    checkpoint = Checkpoint(
        workdir / "backup",
        trainer.recipe,
        trainer.train,
        minutes=checkpoint_minutes,
    )
    place = checkpoint.restore(trainer.model)
    checkpoint.set_model(trainer.model)
    session = processes.in_first(
        lambda: _begin(trainer, workdir, checkpoint, place)
    )
    place = place or Place(0, 0)
    if place.epoch < trainer.recipe.epochs:
        loop.train(trainer, workdir, place, checkpoint, verbose, callbacks)
    result = processes.from_first(lambda: _finish(trainer, workdir, session))
    return json.loads(result)


def _require_same(resolved):
    """Raise unless all processes have the same recipe and data size."""
    if processes.count() > 1:
        dataset = resolved.dataset
        about = (
            f"{dataset.size('train')} training images {dataset.image_shape}, "
            f"{len(resolved.card.class_names)} classes"
        )
        difference = processes.difference(
            f"{resolved.recipe.to_toml()}# {about}\n"
        )
        if difference:
            raise RecipeError(
                "All processes must have the same recipe and the same data. "
                "If the recipe has no `mean` and `std`, they are computed "
                f"from the data. {difference}"
            )


def _begin(trainer, workdir, checkpoint, place):
    """Prepare the work directory and print whether the run starts or resumes.

    Returns:
        `Session`, or None if the run is finished.
    """
    folders = (workdir, checkpoint.last.parent, workdir / workdirs.PREDICTIONS)
    for folder in folders:
        for path in files.temporaries(folder):
            path.unlink()
    if place is None:
        workdirs.require_unbegun(workdir)
        place = Place(0, 0)
        # `require_unbegun` relies on this: a run that has begun always has a
        # checkpoint, unless it was lost.
        checkpoint.save(place)
    if not (workdir / "card.json").exists():
        trainer.plan.card.write(workdir)
    workdirs.forget_epochs_from(place.epoch, workdir / workdirs.HISTORY)
    _announce(trainer, place)
    if place.epoch >= trainer.recipe.epochs:
        return None
    return workdirs.Session(workdir, trainer.plan.dataset, *place)


def _announce(trainer, place):
    recipe, dataset = trainer.recipe, trainer.plan.dataset
    state = f"resumes after {place}" if any(place) else "starts"
    if place.epoch >= recipe.epochs:
        state = f"is finished: all {place.epoch} epochs are done"
    sizes = ", ".join(
        f"{dataset.size(split):,} {_ADJECTIVES[split]}"
        for split in dataset.splits
    )
    for note in dataset.notes:
        print(note)
    print(
        f"{recipe.model}, {parameters(trainer.model):,} parameters, on "
        f"{recipe.dataset}: {sizes} images {dataset.image_shape}. The run "
        f"{state}."
    )


_ADJECTIVES = {
    "train": "training",
    "validation": "validation",
    "test": "test",
}


def _finish(trainer, workdir, session):
    """Write the files of a finished run and return its scores as JSON."""
    recipe, took = trainer.recipe, ""
    if session is not None:
        session.finish()
        took = f", in {session.duration} on {session.devices}"
    curves.draw(
        workdir / workdirs.HISTORY, recipe.task.metrics, workdir / "curves.png"
    )
    result = trainer.scores()
    metrics = {
        "n": 1,
        "parameters": parameters(trainer.model),
        "scores": {
            metric.name: {
                "mean": files.for_json(result[metric.name]),
                "std": None,
            }
            for metric in recipe.task.metrics
        },
    }
    card = dataclasses.replace(trainer.plan.card, metrics=metrics)
    card.write(workdir)
    # Last, because a run with this file is finished.
    files.write_json(workdir / workdirs.METRICS, result)
    main = recipe.task.metrics[0]
    print(
        f"{recipe.model} on {recipe.dataset}: test {main.title} "
        f"{main.text_with_unit(result[main.name])} on {result['images']:,} "
        f"images after {recipe.epochs} epochs{took}. The results are in "
        f"{workdir}."
    )
    return json.dumps(result).encode()
