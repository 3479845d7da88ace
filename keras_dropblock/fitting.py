"""Train and evaluate by a recipe: `model.fit`, assembled.

The only place that knows strategies and backends.
"""

import contextlib
import dataclasses
import json
import math
import pathlib

import keras

from keras_dropblock import data, files, loop
from keras_dropblock.analysis import plots
from keras_dropblock.analysis.scores import scores
from keras_dropblock.backup import Backup, Place
from keras_dropblock.layers.convolution import synchronize_norms
from keras_dropblock.models import from_notation
from keras_dropblock.optimizers import (
    SGD,
    couple_weight_decay,
    drop_steps,
    step_schedule,
)
from keras_dropblock.recipes import (
    AUGMENTATIONS,
    Recipe,
    RecipeError,
    usual_augmentation,
)
from keras_dropblock.workdir import (
    Session,
    WorkdirError,
    claim,
    forget_epochs_from,
    locked,
    require_unbegun,
    write_json,
)


def fit(recipe, workdir, *, verbose="auto", backup_minutes=10.0):
    """Train by a recipe, or go on with a run that stopped.

    The resolved recipe and the versions are written before the first step.
    After each epoch the work directory holds `history.csv`,
    `curves.png`, `model.weights.h5`, TensorBoard's logs and a backup; within an
    epoch a backup is made from time to time. The same call on the same work
    directory goes on after the last backup, or finds the run done; the result
    is that of an uninterrupted run. At the end comes `metrics.json`. The test
    set is watched, nothing is chosen by it: the last epoch is what counts.

    In the main thread, SIGTERM and Ctrl-C end the run after the step at hand,
    with a backup; a second one ends it at once.

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
    """
    workdir = pathlib.Path(workdir)
    run = _prepare(recipe)
    claim(workdir, run.recipe)
    with locked(workdir):
        return _fit(run, workdir, verbose, backup_minutes)


def _fit(run, workdir, verbose, backup_minutes):
    backup = Backup(
        *(workdir / "backup", run.recipe.to_toml(), run.train),
        minutes=backup_minutes,
    )
    place = _begin(run, workdir, backup)
    _announce(run, place)
    took = ""
    if place.epoch < run.recipe.epochs:
        session = Session(workdir, run.splits, *place)
        loop.train(run, workdir, place, backup, verbose)
        session.finish()
        took = f", in {session.duration} on {session.devices}"
    plots.training_curves(workdir / "history.csv", workdir / "curves.png")
    result = _score(run.model, run.test)
    write_json(workdir / "metrics.json", result)
    print(
        f"{run.recipe.model} on {run.recipe.dataset}: test accuracy "
        f"{result['accuracy']:.2%} of {result['images']:,} images after "
        f"{run.recipe.epochs} epochs{took}. All is in {workdir}."
    )
    return result


def _begin(run, workdir, backup):
    """Where the run goes on from; what was killed there left no litter."""
    for folder in (workdir, backup.last.parent):
        for path in files.temporaries(folder):
            path.unlink()
    place = backup.restore(run.model)
    if place is None:
        require_unbegun(workdir)
        place = Place(0, 0)
        # From here on a run without a backup has lost it.
        backup.set_model(run.model)
        backup.save(place)
    forget_epochs_from(place.epoch, workdir / "history.csv")
    return place


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
    return _score(model, _batches(recipe, _load(recipe), split))


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


@dataclasses.dataclass(frozen=True)
class _Run:
    """All that a recipe stands for, before anything is written."""

    recipe: Recipe
    splits: object  # `data.sources.Splits`, or `data.photographs.Photographs`
    train: keras.utils.PyDataset
    test: keras.utils.PyDataset
    model: keras.Model


def _prepare(recipe):
    recipe, splits = _resolve(recipe)
    _check_backend(recipe)
    keras.utils.set_random_seed(recipe.seed)
    train = _batches(
        recipe,
        splits,
        "train",
        training=True,
        augmentation={
            "cutout": recipe.cutout,
            "mixup": recipe.mixup,
            **AUGMENTATIONS[recipe.augmentation],
        },
        seed=recipe.seed,
    )
    with _policy(recipe.dtype), _scope(recipe.strategy):
        model = _build(recipe, splits.image_shape, len(splits.class_names))
        if recipe.synchronized_norms:
            synchronize_norms(model)
        _compile(model, recipe, steps_per_epoch=len(train))
    return _Run(recipe, splits, train, _batches(recipe, splits, "test"), model)


def _load(recipe):
    arguments = {
        "data_dir": recipe.data_dir,
        "train_split": recipe.train_split,
        "test_split": recipe.test_split,
        "image_size": recipe.image_size,
    }
    if not recipe.is_streamed:
        return data.load(recipe.dataset, **arguments)
    if recipe.image_size is None:
        raise RecipeError(
            "`image_size` must be given with `augmentation` resized_crop_flip "
            f"(the one of {recipe.dataset}, unless another is set): the side "
            "of the crops, 224 for ImageNet."
        )
    return data.stream(
        recipe.dataset, **arguments, central_part=recipe.central_part
    )


def _resolve(recipe):
    """Fill in what the data set decides, and check what it must fit."""
    recipe = dataclasses.replace(
        recipe,
        augmentation=recipe.augmentation or usual_augmentation(recipe.dataset),
    )
    splits = _load(recipe)
    published = data.normalise.published(recipe.dataset)
    mean, std = published or splits.normalisation()
    recipe = dataclasses.replace(
        recipe, mean=recipe.mean or mean, std=recipe.std or std
    )
    channels = splits.image_shape[-1]
    for key in ("mean", "std"):
        if len(getattr(recipe, key)) != channels:
            raise RecipeError(
                f"`{key}` must have one number for each of the {channels} "
                f"channels of {recipe.dataset}. Received: "
                f"{key}={getattr(recipe, key)}."
            )
    return recipe, splits


def _batches(recipe, splits, split, **arguments):
    batch_size = recipe.batch_size
    if recipe.strategy == "mirrored" and not arguments.get("training"):
        batch_size = _full_batches(
            splits.size(split), batch_size, len(_replicas())
        )
    if recipe.data_on_device and keras.backend.backend() == "jax":
        arguments["on_device"] = True
    try:
        return splits.batches(
            split,
            batch_size,
            data.Normalise(recipe.mean, recipe.std),
            **arguments,
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _full_batches(count, batch_size, replicas):
    """The largest size of batches that all replicas can share.

    Keras needs a first batch of equal parts. Of the last one TensorFlow gives
    each replica `ceil(rest / replicas)` images and the last what is left;
    with none there its CPU kernels crash.
    """
    largest = min(count, batch_size) // replicas * replicas
    for size in range(largest, 0, -replicas):
        rest = count % size
        if not rest or (replicas - 1) * -(-rest // replicas) < rest:
            return size
    raise RecipeError(
        f"`strategy` mirrored needs images that {replicas} replicas can share, "
        f"one at least for each. Received: {count} images in batches of "
        f"{batch_size}."
    )


def _check_backend(recipe):
    if keras.config.image_data_format() != "channels_last":
        raise RecipeError(
            "Training needs image_data_format channels_last. Received: "
            f"{keras.config.image_data_format()}."
        )
    if recipe.data_on_device and (
        keras.backend.backend() != "jax" or recipe.is_streamed
    ):
        raise RecipeError(
            "`data_on_device` is for images in memory and the JAX backend. "
            f"Received: augmentation={recipe.augmentation}, "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if keras.backend.backend() == "torch" and recipe.steps_per_execution > 1:
        raise RecipeError(
            "`steps_per_execution` must be 1 on the torch backend. Received: "
            f"steps_per_execution={recipe.steps_per_execution}."
        )
    if keras.backend.backend() == "torch" and recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` is not for the torch backend: torch.compile traces "
            "Keras's steps anew each time. Set it to false."
        )
    if recipe.strategy != "mirrored":
        if recipe.synchronized_norms:
            raise RecipeError(
                "`synchronized_norms` is for `strategy` mirrored: elsewhere "
                f"there is one replica. Received: strategy={recipe.strategy}."
            )
        return
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "`strategy` mirrored needs the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if recipe.batch_size % len(_replicas()):
        raise RecipeError(
            "`batch_size` is that of all replicas under `strategy` mirrored, "
            f"and must be a multiple of their number, {len(_replicas())}. "
            f"Received: batch_size={recipe.batch_size}."
        )
    if recipe.jit_compile:
        raise RecipeError(
            "`jit_compile` does not work under `strategy` mirrored: XLA cannot "
            "compile its collectives. Set one of them otherwise."
        )


def _build(recipe, image_shape, num_classes):
    options = (
        *("dropout", "spatial_dropout", "survival_prob", "keep_prob"),
        *("block_size", "dropblock_groups", "dropblock_skip"),
    )
    arguments = {option: getattr(recipe, option) for option in options}
    if recipe.zero_init:  # an argument of post-activation ResNets alone
        arguments["zero_init"] = True
    try:
        return from_notation(
            recipe.model,
            input_shape=image_shape,
            num_classes=num_classes,
            **arguments,
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"`model` {recipe.model}: {error}") from error


def _compile(model, recipe, steps_per_epoch):
    couple_weight_decay(model, recipe.weight_decay, norms=recipe.decay_norms)
    rate = step_schedule(
        recipe.learning_rate,
        recipe.learning_rate_drops,
        recipe.learning_rate_factor,
        steps_per_epoch,
        warmup_epochs=recipe.warmup_epochs,
    )
    optimizer = SGD(
        rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        reset_momentum_at=drop_steps(
            recipe.learning_rate_drops, steps_per_epoch
        )
        if recipe.reset_momentum
        else (),
    )
    backend = keras.backend.backend()
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=True if backend == "jax" else recipe.jit_compile,
        steps_per_execution=recipe.steps_per_execution,
    )
    # Here, in the scope of the strategy, and not in the first step.
    model.optimizer.build(model.trainable_variables)


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

    devices = _replicas()
    # Collectives between logical CPUs, as in tests, are not dependable.
    on_cpu = devices[0].startswith("CPU")
    return tf.distribute.MirroredStrategy(
        devices,
        tf.distribute.ReductionToOneDevice() if on_cpu else None,
    ).scope()


def _replicas():
    """Names of the devices of strategy mirrored: all GPUs, or else CPUs."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


def _announce(run, place):
    recipe, splits = run.recipe, run.splits
    parameters = sum(math.prod(v.shape) for v in run.model.trainable_variables)
    state = f"goes on after {place}" if any(place) else "starts"
    if place.epoch >= recipe.epochs:
        state = f"is done: all {place.epoch} epochs"
    print(
        f"{recipe.model}, {parameters:,} parameters, on {recipe.dataset}: "
        f"{splits.size('train'):,} training and {splits.size('test'):,} test "
        f"images {splits.image_shape}. The run {state}."
    )
