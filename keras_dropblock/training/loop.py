"""The training loop: `model.fit` with the callbacks of a run."""

import importlib
import sys

import keras

from keras_dropblock import schedules
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.report import curves
from keras_dropblock.runs import workdir as workdirs
from keras_dropblock.training import callbacks, processes, strategies
from keras_dropblock.training.signals import (
    StopIfDiverged,
    StopWhenAsked,
    stop_requests,
)


def train(trainer, workdir, place, checkpoint, verbose, further=()):
    """Train from a place to the end of the run.

    Args:
        trainer: `trainer.Trainer`.
        workdir: folder of the run.
        place: `Place` to start from. The model must be in its state.
        checkpoint: `Checkpoint` that restored this state.
        verbose: as in `keras.Model.fit`. `"auto"` shows a progress bar on a
            terminal and prints one line per epoch elsewhere.
        further: Keras callbacks to call after those of a run.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, with a checkpoint saved.
        DivergedError: if the loss or the weights become NaN or infinite.
        WriteError: if a file cannot be written.
    """
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    if not processes.is_first():
        verbose = 0
    with (
        stop_requests() as requests,
        strategies.fit_scope(trainer.recipe.strategy),
    ):
        parts = _callbacks(trainer, workdir, checkpoint, requests, verbose)
        parts += further
        epoch = place.epoch
        if place.step:
            # The rest of an epoch needs its own call of `fit`: Keras reads
            # the length of an epoch only once per call.
            trainer.train.first_batch = place.step
            _fit(trainer, parts, epoch, epoch + 1, verbose)
            trainer.train.first_batch = 0
            epoch += 1
        if epoch < trainer.recipe.epochs:
            _fit(trainer, parts, epoch, trainer.recipe.epochs, verbose)


def _fit(trainer, parts, first_epoch, end_epoch, verbose):
    with trainer.train.for_keras() as batches:
        trainer.model.fit(
            batches,
            initial_epoch=first_epoch,
            epochs=end_epoch,
            shuffle=False,
            # Built here so that `params["epochs"]` counts the epochs of the
            # run, not those of this call of `fit`.
            callbacks=keras.callbacks.CallbackList(
                parts,
                add_history=True,
                add_progbar=verbose != 0,
                model=trainer.model,
                verbose=verbose,
                epochs=trainer.recipe.epochs,
                steps=len(trainer.train),
            ),
            verbose=verbose,
        )


def _callbacks(trainer, workdir, checkpoint, requests, verbose):
    """Callbacks in order: those that write logs, then those that read them."""
    recipe = trainer.recipe
    logs = [
        callbacks.LogSpeed(recipe.batch_size),
        callbacks.LogLearningRate(),
    ]
    if dropblock_layers(trainer.model):
        logs.append(
            callbacks.KeepProbOfRun(
                schedules.BY_NAME[recipe.schedule], trainer.train
            )
        )
    result = [callbacks.EpochOfData(trainer.train), *logs]
    if verbose == 1:
        result.append(callbacks.ShowOnBar(logs))
    result.append(StopIfDiverged(trainer.train))
    if processes.is_first():
        result += _writers(trainer, workdir)
    return [
        *result,
        checkpoint,
        StopWhenAsked(requests, checkpoint, trainer.train),
    ]


def _writers(trainer, workdir):
    """The callbacks that write files, for the primary process only."""
    history = workdir / workdirs.HISTORY
    task = trainer.recipe.task

    def draw(epoch, logs):
        curves.draw(history, task.metrics, workdir / "curves.png")

    result = [
        callbacks.LogRegularization(trainer.on_one_device),
        callbacks.WriteHistory(history),
        keras.callbacks.LambdaCallback(on_epoch_end=draw),
    ]
    if trainer.scored is not None:
        score = callbacks.ScoreEpoch(
            trainer.on_one_device,
            task,
            trainer.scored,
            trainer.plan.epoch_split,
        )
        result.insert(0, score)
    # TensorFlow writes these logs. On other backends it may not be installed.
    if keras.backend.backend() == "tensorflow" and _has_tensorboard():
        result.append(
            keras.callbacks.TensorBoard(
                str(workdir / "tensorboard"), write_graph=False
            )
        )
    if task.draws_epochs and trainer.scored is not None:
        result.append(
            callbacks.DrawEpoch(
                workdir / workdirs.PREDICTIONS,
                trainer.on_one_device,
                task,
                trainer.scored,
                trainer.plan.card,
            )
        )
    return [
        *result,
        callbacks.SaveWeights(
            workdir / workdirs.WEIGHTS, trainer.on_one_device
        ),
    ]


def _has_tensorboard():
    """Whether TensorFlow can write TensorBoard logs. Prints a hint if not."""
    try:
        # TensorFlow imports this module when it writes the first scalar.
        importlib.import_module("tensorboard.summary.v2")
    except ImportError:
        print(
            "TensorBoard is not installed, so no TensorBoard logs are written. "
            "To write them: pip install tensorboard"
        )
        return False
    return True
