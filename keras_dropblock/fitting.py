"""Train and evaluate by a recipe."""

import contextlib
import dataclasses
import json
import pathlib

import numpy as np

from keras_dropblock import assembly, files, loop, processes
from keras_dropblock.analysis import plots
from keras_dropblock.analysis.networks import parameters
from keras_dropblock.analysis.scores import scores
from keras_dropblock.backup import Backup, Place
from keras_dropblock.models import weights
from keras_dropblock.recipes import Recipe
from keras_dropblock.workdir import (
    Session,
    WorkdirError,
    forget_epochs_from,
    read_run,
    require_unbegun,
    taken,
    write_json,
)


def fit(recipe, workdir, *, verbose="auto", backup_minutes=10.0):
    """Train by a recipe, or go on with a run that stopped.

    The resolved recipe and the versions are written before the first step.
    After each epoch the work directory holds `history.csv`, `curves.png`,
    `model.weights.h5`, a backup and, with TensorFlow and TensorBoard, its
    logs; within an epoch a backup is made from time to time. The same call on
    the same work directory goes on after the last backup, or finds the run
    done; the result is that of an uninterrupted run. At the end comes
    `metrics.json`. The test set is watched, nothing is chosen by it: the last
    epoch is what counts.

    In the main thread, SIGTERM and Ctrl-C end the run after the step at hand,
    with a backup; a second one ends it at once.

    Several processes that `processes.join` has made one train together when
    all call this: see `strategy` data_parallel. The first alone needs the work
    directory.

    Args:
        recipe: `Recipe`.
        workdir: folder of the run, made if it is not there.
        verbose: as in `keras.Model.fit`; `"auto"` is a progress bar on a
            terminal and a line an epoch elsewhere.
        backup_minutes: least time between backups within an epoch, >= 0; 0
            backs up every step. It does not change the result.

    Returns:
        The scores on the test set: see `evaluate`.

    Raises:
        WorkdirError: if the work directory belongs to another recipe, is in
            use, or holds no backup that can be used of a run that has begun.
        RecipeError: if the recipe does not fit its data, network or backend.
        data.DataError: if the data are not there.
        stopping.Interrupted: after SIGTERM or Ctrl-C.
        backup.NotFiniteError: if the loss or the weights cease to be finite.
        files.WriteError: if the disk is full; the last backup stays.
        processes.LostError: if another process has stopped.
    """
    workdir = pathlib.Path(workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.losses_told())
        run = assembly.prepare(recipe)
        processes.in_first(
            lambda: stack.enter_context(taken(workdir, run.recipe))
        )
        return _fit(run, workdir, verbose, backup_minutes)


def _fit(run, workdir, verbose, backup_minutes):
    backup = Backup(
        *(workdir / "backup", run.recipe.to_toml(), run.train),
        minutes=backup_minutes,
    )
    place = backup.restore(run.model)
    backup.set_model(run.model)
    session = processes.in_first(lambda: _begin(run, workdir, backup, place))
    place = place or Place(0, 0)
    if place.epoch < run.recipe.epochs:
        loop.train(run, workdir, place, backup, verbose)
    result = processes.from_first(lambda: _finish(run, workdir, session))
    return json.loads(result)


def _finish(run, workdir, session):
    """Write what belongs to a run that is done; its scores as JSON bytes."""
    took = ""
    if session is not None:
        session.finish()
        took = f", in {session.duration} on {session.devices}"
    plots.training_curves(workdir / "history.csv", workdir / "curves.png")
    with run.on_one_device() as model:
        result = _score(model, run.test)
    write_json(workdir / "metrics.json", result)
    print(
        f"{run.recipe.model} on {run.recipe.dataset}: test accuracy "
        f"{result['accuracy']:.2%} of {result['images']:,} images after "
        f"{run.recipe.epochs} epochs{took}. All is in {workdir}."
    )
    return json.dumps(result).encode()


def _begin(run, workdir, backup, place):
    """Write that the run begins, or goes on; what was killed left no litter.

    Returns:
        `Session`, or None if the run is done.
    """
    for folder in (workdir, backup.last.parent):
        for path in files.temporaries(folder):
            path.unlink()
    if place is None:
        require_unbegun(workdir)
        place = Place(0, 0)
        # From here on a run without a backup has lost it.
        backup.save(place)
    forget_epochs_from(place.epoch, workdir / "history.csv")
    _announce(run, place)
    if place.epoch >= run.recipe.epochs:
        return None
    return Session(workdir, run.splits, *place)


def evaluate(workdir, split="test"):
    """Score a finished or unfinished run.

    Args:
        workdir: work directory of `fit`.
        split: `"test"` or `"train"`, the latter without augmentation.

    Returns:
        A dict: see `analysis.scores.scores`.
    """
    model, recipe, _ = load_run(workdir)
    return evaluate_model(model, recipe, split)


def evaluate_model(model, recipe, split="test"):
    """Score a trained model on the data of a recipe: see `evaluate`."""
    if split not in ("test", "train"):
        raise ValueError(
            f"`split` must be test or train. Received: split={split!r}."
        )
    return _score(model, assembly.batches(recipe, assembly.load(recipe), split))


def load_run(workdir, dtype=None):
    """The model of a work directory with its last weights.

    Args:
        workdir: work directory of `fit`.
        dtype: Keras's dtype policy, or None for the recipe's.

    Returns:
        (model, resolved recipe, contents of run.json)

    Raises:
        WorkdirError: if it is no work directory, or no epoch is done.
        models.weights.WeightsError: if its weights are damaged.
    """
    workdir = pathlib.Path(workdir)
    for name in ("recipe.toml", "run.json", "model.weights.h5"):
        if not (workdir / name).exists():
            raise WorkdirError(
                f"{workdir} is no work directory with a finished epoch: it "
                f"has no {name}."
            )
    recipe = Recipe.from_toml(workdir / "recipe.toml")
    info = read_run(workdir)
    with assembly.policy(dtype or recipe.dtype):
        model = assembly.build(
            recipe, tuple(info["image_shape"]), len(info["class_names"])
        )
    weights.load(model, workdir / "model.weights.h5")
    return model, recipe, info


class Examples:
    """Images of a recipe's data set as they are before normalisation.

    Args:
        recipe: a resolved `Recipe`, as `load_run` gives it.

    Raises:
        data.DataError: if the data are not there.
    """

    def __init__(self, recipe):
        self.recipe = recipe
        self.splits = assembly.load(recipe)

    def drawn(self, count):
        """Up to `count` uint8 training images, drawn by the recipe's seed."""
        size = min(count, self.splits.size("train"))
        batches = self._batches("train", size, training=True)
        return batches.read(0)[0]

    def test(self, count):
        """Up to `count` test images, evenly spaced: (uint8 images, labels)."""
        size = self.splits.size("test")
        count = min(count, size)
        batches = self._batches("test", size // count)
        # The first image of each batch.
        read = [batches.read(i) for i in range(count)]
        return tuple(
            np.concatenate([x[:1] for x in xs])
            for xs in zip(*read, strict=True)
        )

    def _batches(self, split, batch_size, **arguments):
        return assembly.batches(
            dataclasses.replace(self.recipe, data_on_device=False),
            self.splits,
            split,
            batch_size=batch_size,
            seed=self.recipe.seed,
            **arguments,
        )


def _score(model, batches):
    return scores(model.predict(batches, verbose=0), batches.labels)


def _announce(run, place):
    recipe, splits = run.recipe, run.splits
    state = f"goes on after {place}" if any(place) else "starts"
    if place.epoch >= recipe.epochs:
        state = f"is done: all {place.epoch} epochs"
    print(
        f"{recipe.model}, {parameters(run.model):,} parameters, on "
        f"{recipe.dataset}: "
        f"{splits.size('train'):,} training and {splits.size('test'):,} test "
        f"images {splits.image_shape}. The run {state}."
    )
