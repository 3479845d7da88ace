"""The loop: `model.fit` with all callbacks of a run, from any place of it."""

import importlib
import sys

import keras

from keras_dropblock import callbacks, processes, schedules, strategies
from keras_dropblock.analysis import plots
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.stopping import (
    StopUnlessFinite,
    StopWhenAsked,
    stop_requests,
)


def train(run, workdir, place, backup, verbose):
    """Train from a place to the end of the run.

    Args:
        run: has `recipe`, `model` and the `Batches` `train` and `test`.
        workdir: the run's folder.
        place: `Place` of which the model has the state.
        backup: `Backup`, asked for that state if there was one.
        verbose: as in `keras.Model.fit`; `"auto"` is a progress bar on a
            terminal and a line an epoch elsewhere.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, with a backup.
        NotFiniteError: if the loss or the weights cease to be finite.
        files.WriteError: if a file cannot be written.
    """
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    if not processes.is_first():
        verbose = 0
    with (
        stop_requests() as requests,
        strategies.fit_scope(run.recipe.strategy),
    ):
        parts = _callbacks(run, workdir, backup, requests, verbose)
        epoch = place.epoch
        if place.step:
            # The rest of an epoch is a fit of its own: Keras asks for the
            # length of an epoch once.
            run.train.first_batch = place.step
            _fit(run, parts, epoch, epoch + 1, verbose)
            run.train.first_batch = 0
            epoch += 1
        if epoch < run.recipe.epochs:
            _fit(run, parts, epoch, run.recipe.epochs, verbose)


def _fit(run, parts, first_epoch, end_epoch, verbose):
    run.model.fit(
        run.train,
        initial_epoch=first_epoch,
        epochs=end_epoch,
        validation_data=None
        if run.recipe.strategy == "data_parallel"
        else run.test,
        shuffle=False,
        # Made here to count the epochs of the run, not those of this fit.
        callbacks=keras.callbacks.CallbackList(
            parts,
            add_history=True,
            add_progbar=verbose != 0,
            model=run.model,
            verbose=verbose,
            epochs=run.recipe.epochs,
            steps=len(run.train),
        ),
        verbose=verbose,
    )


def _callbacks(run, workdir, backup, requests, verbose):
    """In order: those that write to the logs, those that write logs down."""
    logs = [
        callbacks.LogSpeed(run.recipe.batch_size),
        callbacks.LogLearningRate(),
    ]
    if dropblock_layers(run.model):
        logs.append(
            callbacks.KeepProbOfRun(
                schedules.BY_NAME[run.recipe.schedule], run.train
            )
        )
    result = [callbacks.EpochOfData(run.train), *logs]
    if verbose == 1:
        result.append(callbacks.ShowOnBar(logs))
    result.append(StopUnlessFinite(run.train))
    if processes.is_first():
        result += _writers(run, workdir)
    return [*result, backup, StopWhenAsked(requests, backup, run.train)]


def _writers(run, workdir):
    """What one process does for all."""
    result = []
    if run.recipe.strategy == "data_parallel":
        result.append(
            strategies.EvaluateOnOneDevice(run.on_one_device, run.test)
        )
    history = workdir / "history.csv"
    result += [
        callbacks.WriteHistory(history),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: plots.training_curves(
                history, workdir / "curves.png"
            )
        ),
    ]
    # Written by TensorFlow: on other backends it may not be there.
    if keras.backend.backend() == "tensorflow" and _has_tensorboard():
        result.append(
            keras.callbacks.TensorBoard(
                str(workdir / "tensorboard"), write_graph=False
            )
        )
    weights = workdir / "model.weights.h5"
    return [*result, callbacks.SaveWeights(weights, run.on_one_device)]


def _has_tensorboard():
    """Whether TensorFlow can write logs for TensorBoard; says so if not."""
    try:
        # What TensorFlow imports as it writes the first number.
        importlib.import_module("tensorboard.summary.v2")
    except ImportError:
        print(
            "TensorBoard is not installed, so the run has no logs for it. "
            "To have them: pip install tensorboard"
        )
        return False
    return True
