"""Train and evaluate by a recipe: `model.fit`, assembled.

The only place that knows strategies and backends.
"""

import contextlib
import json
import pathlib
import sys
import time

import keras
import numpy as np

from keras_dropblock import callbacks, data, schedules
from keras_dropblock.analysis import plots
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.models import from_notation
from keras_dropblock.optimizers import SGD, couple_weight_decay, step_schedule
from keras_dropblock.recipes import (
    AUGMENTATIONS,
    USUAL_AUGMENTATION,
    Recipe,
    RecipeError,
)
from keras_dropblock.workdir import (
    WorkdirError,
    claim,
    forget_epochs_from,
    now,
    run_info,
    write_json,
)


def fit(recipe, workdir, verbose="auto"):
    """Train by a recipe, or go on with a run that stopped.

    The resolved recipe and the versions are written before the first step.
    After each epoch the work directory holds `history.csv`,
    `model.weights.h5`, TensorBoard's logs and a backup: the same call on the
    same work directory goes on after the last whole epoch, or finds the run
    done. At the end come `curves.png` and `metrics.json`. The test set is
    watched, nothing is chosen by it: the last epoch is what counts.

    Args:
        recipe: `Recipe`.
        workdir: folder of the run, made if it is not there.
        verbose: as in `keras.Model.fit`; `"auto"` is a progress bar on a
            terminal and a line an epoch elsewhere.

    Returns:
        The scores on the test set: see `evaluate`.

    Raises:
        WorkdirError: if the work directory belongs to another recipe.
        RecipeError: if the recipe does not fit its data, network or backend.
        data.DataError: if the data are not there.
    """
    workdir = pathlib.Path(workdir)
    splits = _load(recipe)
    recipe = _resolve(recipe, splits)
    _check_backend(recipe)
    claim(workdir, recipe)
    info = run_info(splits)
    write_json(workdir / "run.json", info)

    keras.utils.set_random_seed(recipe.seed)
    normalise = data.Normalise(recipe.mean, recipe.std)
    train = data.Batches(
        splits.x_train,
        splits.y_train,
        recipe.batch_size,
        normalise,
        training=True,
        seed=recipe.seed,
        **AUGMENTATIONS[recipe.augmentation],
    )
    test = data.Batches(
        splits.x_test, splits.y_test, recipe.batch_size, normalise
    )
    with _policy(recipe.dtype):
        with _scope(recipe.strategy):
            model = _build(recipe, splits.image_shape, len(splits.class_names))
            _compile(model, recipe, steps_per_epoch=len(train))
            backup = callbacks.Backup(
                workdir / "backup" / "last.npz", recipe.to_toml()
            )
            done = backup.restore(model)
        _announce(recipe, model, splits, done)
        started = time.monotonic()
        if done < recipe.epochs:
            model.fit(
                train,
                epochs=recipe.epochs,
                initial_epoch=done,
                validation_data=test,
                shuffle=False,
                callbacks=_callbacks(
                    model, recipe, train, workdir, done, backup
                ),
                verbose=_verbosity(verbose),
            )
            plots.training_curves(
                workdir / "history.csv", workdir / "curves.png"
            )
            info["finished"] = now()
            info["seconds_of_this_session"] = round(
                time.monotonic() - started, 1
            )
            write_json(workdir / "run.json", info)
        result = _score(model, test)
    write_json(workdir / "metrics.json", result)
    print(
        f"{recipe.model} on {recipe.dataset}: test accuracy "
        f"{result['accuracy']:.2%} of {result['images']:,} images after "
        f"{recipe.epochs} epochs. All is in {workdir}."
    )
    return result


def evaluate(workdir, split="test"):
    """Score a finished or unfinished run.

    Args:
        workdir: work directory of `fit`.
        split: `"test"` or `"train"`, the latter without augmentation.

    Returns:
        A dict with accuracy, nll (nats), ece and the number of images.
    """
    if split not in ("test", "train"):
        raise ValueError(
            f"`split` must be test or train. Received: split={split!r}."
        )
    model, recipe, _ = load_run(workdir)
    splits = _load(recipe)
    images, labels = (
        (splits.x_test, splits.y_test)
        if split == "test"
        else (splits.x_train, splits.y_train)
    )
    batches = data.Batches(
        images,
        labels,
        recipe.batch_size,
        data.Normalise(recipe.mean, recipe.std),
    )
    return _score(model, batches)


def load_run(workdir):
    """The model of a work directory with its last weights.

    Returns:
        (model, resolved recipe, contents of run.json)

    Raises:
        WorkdirError: if it is no work directory, or no epoch is done.
    """
    workdir = pathlib.Path(workdir)
    for name in ("recipe.toml", "run.json", "model.weights.h5"):
        if not (workdir / name).exists():
            raise WorkdirError(
                f"{workdir} is no work directory with a finished epoch: it "
                f"has no {name}."
            )
    recipe = Recipe.from_toml(workdir / "recipe.toml")
    info = json.loads((workdir / "run.json").read_text("utf-8"))
    with _policy(recipe.dtype):
        model = _build(
            recipe, tuple(info["image_shape"]), len(info["class_names"])
        )
    model.load_weights(workdir / "model.weights.h5")
    return model, recipe, info


def _load(recipe):
    return data.load(
        recipe.dataset,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        test_split=recipe.test_split,
        image_size=recipe.image_size,
    )


def _resolve(recipe, splits):
    """Fill in what the data set decides."""
    published = data.normalise.PUBLISHED.get(recipe.dataset)
    mean, std = published or data.normalise.channel_statistics(splits.x_train)
    values = {
        "mean": recipe.mean or mean,
        "std": recipe.std or std,
        "augmentation": recipe.augmentation
        or USUAL_AUGMENTATION.get(recipe.dataset, "none"),
    }
    return recipe.override(f"{k}={json.dumps(v)}" for k, v in values.items())


def _check_backend(recipe):
    if keras.config.image_data_format() != "channels_last":
        raise RecipeError(
            "Training needs image_data_format channels_last. Received: "
            f"{keras.config.image_data_format()}."
        )
    if recipe.strategy != "mirrored":
        return
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "`strategy` mirrored needs the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` does not work under `strategy` mirrored: XLA cannot "
            "compile its collectives. Set one of them otherwise."
        )


def _build(recipe, image_shape, num_classes):
    try:
        return from_notation(
            recipe.model,
            input_shape=image_shape,
            num_classes=num_classes,
            dropout=recipe.dropout,
            keep_prob=recipe.keep_prob,
            block_size=recipe.block_size,
            dropblock_groups=recipe.dropblock_groups,
        )
    except ValueError as error:
        raise RecipeError(f"`model` {recipe.model}: {error}") from error


def _compile(model, recipe, steps_per_epoch):
    couple_weight_decay(model, recipe.weight_decay)
    rate = step_schedule(
        recipe.learning_rate,
        recipe.learning_rate_drops,
        recipe.learning_rate_factor,
        steps_per_epoch,
    )
    backend = keras.backend.backend()
    model.compile(
        SGD(rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True if backend == "jax" else recipe.jit_compile,
    )


def _callbacks(model, recipe, train, workdir, done, backup):
    """In order: those that write to the logs, those that write logs down."""
    steps = recipe.epochs * len(train)
    schedule = schedules.BY_NAME[recipe.schedule]
    history = workdir / "history.csv"
    forget_epochs_from(done, history)
    result = [callbacks.EpochOfData(train), callbacks.LogLearningRate()]
    if dropblock_layers(model):
        result.append(callbacks.KeepProbScheduler(schedule, total_steps=steps))
    result.append(keras.callbacks.CSVLogger(str(history), append=done > 0))
    if keras.backend.backend() == "tensorflow":
        # Written by TensorFlow: on other backends it may not be there.
        result.append(
            keras.callbacks.TensorBoard(
                str(workdir / "tensorboard"), write_graph=False
            )
        )
    return [
        *result,
        callbacks.SaveWeights(workdir / "model.weights.h5"),
        backup,
    ]


def _score(model, batches):
    return scores(model.predict(batches, verbose=0), batches.labels)


@contextlib.contextmanager
def _policy(dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _scope(strategy):
    if strategy == "default":
        return contextlib.nullcontext()
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy().scope()
    # Logical CPUs, as in tests: collectives between them are not dependable.
    return tf.distribute.MirroredStrategy(
        [device.name[-5:] for device in tf.config.list_logical_devices("CPU")],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    ).scope()


def _verbosity(verbose):
    if verbose != "auto":
        return verbose
    return 1 if sys.stdout.isatty() else 2


def _announce(recipe, model, splits, done):
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    state = f"goes on after epoch {done}" if done else "starts"
    if done >= recipe.epochs:
        state = f"is done: all {done} epochs"
    print(
        f"{recipe.model}, {parameters:,} parameters, on {recipe.dataset}: "
        f"{len(splits.x_train):,} training and {len(splits.x_test):,} test "
        f"images {splits.image_shape}. The run {state}."
    )
