"""Every key of a recipe has its effect on network, optimizer or data.

Each case changes its key and checks the effect: on an optimizer step, on the
pixels of a batch, or on the units that a layer drops. The parts themselves
have their own tests. These tests check only that the value in the recipe
reaches them.
"""

import types
import urllib.request

import keras
import numpy as np
import pytest

from brightness import Brightness
from keras_dropblock import KeepProbScheduler, layers, models, tasks
from keras_dropblock.errors import DataError, RecipeError
from keras_dropblock.training import plan, trainer
from keras_dropblock.training.recipe import Recipe
from small_runs import Stop

BACKEND = keras.backend.backend()
TRAIN, TEST = 12, 6  # images
CLASSES, STEPS = 3, 2  # STEPS: in an epoch
CASES = {}


def case(key):
    """Decorator: register a function as the test case of a key."""

    def add(function):
        CASES[key] = function
        return function

    return add


@pytest.mark.parametrize("key", [*Recipe().flat()])
def test_a_key_of_the_recipe_has_its_effect(key, world):
    assert key in CASES, f"no case tests the effect of `{key}`"
    CASES[key](world)


class World:
    """Recipes for a data set whose pixels are not changed by default."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.arrays = write_images(folder / "images.npz", seed=0)
        self.recipe = Recipe(
            model="WRN-10-1",
            dataset=str(folder / "images.npz"),
            augmentation="none",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            batch_size=TRAIN // STEPS,
            epochs=4,
            learning_rate_drops=(),
        )

    def with_(self, **changes):
        return self.recipe.replaced(changes, "test")

    def prepare(self, **changes):
        """A `Trainer`. Its test batches are in `scored`."""
        return trainer.Trainer(plan.resolve(self.with_(**changes)))

    def fed(self, epoch=0, **changes):
        """(images, labels) of all training batches of an epoch."""
        return fed(self.prepare(**changes).train, epoch)


def fed(batches, epoch=0):
    """(images, labels) of all batches of an epoch."""
    batches.epoch = epoch
    parts = zip(*(batches[i] for i in range(len(batches))), strict=True)
    return tuple(np.concatenate([to_numpy(x) for x in xs]) for xs in parts)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def write_images(path, seed):
    rng = np.random.default_rng(seed)
    shape = (8, 8, 3)
    arrays = {
        "x_train": rng.integers(0, 256, (TRAIN, *shape), "uint8"),
        "y_train": np.arange(TRAIN) % CLASSES,
        "x_test": rng.integers(0, 256, (TEST, *shape), "uint8"),
        "y_test": np.arange(TEST) % CLASSES,
    }
    np.savez(path, **arrays)
    return arrays


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def in_some_order(images, others):
    """Whether two arrays hold the same images, in any order."""
    a, b = (sorted(map(bytes, np.uint8(x))) for x in (images, others))
    return a == b


@case("task")
def decides_head_loss_and_scores(world):
    usual = world.prepare()
    assert isinstance(usual.recipe.task, tasks.Classification)
    assert usual.model.output.shape == (None, CLASSES)
    own = world.prepare(task="brightness:Brightness")
    assert own.model.output.shape == (None, 1)
    assert isinstance(own.model.loss, keras.losses.Huber)
    assert {*own.scores()} == {Brightness.metrics[0].name, "images"}


# --- the network


@case("model")
def names_the_network(world):
    sizes = {
        name: sum(
            int(np.prod(v.shape))
            for v in world.prepare(model=name).model.trainable_variables
        )
        for name in ("WRN-10-1", "CifarResNet-8")
    }
    # 77,850 and 75,290 are the numbers for ten classes in tests/goldens.py. A
    # class has 64 weights in the kernel, and a bias.
    lost = (10 - CLASSES) * 65
    assert sizes == {"WRN-10-1": 77_850 - lost, "CifarResNet-8": 75_290 - lost}


@case("zero_init")
def starts_the_last_norms_of_blocks_from_zero(world):
    for zero_init, count in ((True, 8), (False, 0)):
        run = world.prepare(model="ResNet-18-0.125", zero_init=zero_init)
        gammas = [v for v in run.model.variables if v.name == "gamma"]
        assert sum(not to_numpy(g).any() for g in gammas) == count


def dropping(model, *kinds):
    """All layers of these classes in a network, in order."""
    return [x for x in model._flatten_layers() if isinstance(x, kinds)]


def dropped(layer, shape):
    """Mask of the units that a layer drops in training."""
    return to_numpy(layer(np.ones(shape, "float32"), training=True)) == 0


def assert_share(mask, rate, count):
    """Assert that a share `rate` of `count` independent draws is true."""
    assert abs(mask.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / count)


@case("dropout")
def drops_units_in_every_block(world):
    assert not dropping(world.prepare().model, layers.Dropout)
    found = dropping(world.prepare(dropout=0.3).model, layers.Dropout)
    assert len(found) == 3
    for layer in found:
        mask = dropped(layer, (50, 4, 4, 20))
        assert_share(mask, 0.3, mask.size)
        # The 16 units of a map are dropped independently. The probability that
        # all or none are dropped is 0.7^16 + 0.3^16 = 0.003.
        assert np.isin(mask.mean((1, 2)), (0, 1)).mean() < 0.03


@case("shortcut_dropout")
def drops_units_on_every_shortcut(world):
    found = dropping(world.prepare(shortcut_dropout=0.3).model, layers.Dropout)
    assert [layer.name for layer in found] == ["dropout_shortcut"] * 3
    for layer in found:
        mask = dropped(layer, (50, 4, 4, 20))
        assert_share(mask, 0.3, mask.size)


@case("spatial_dropout")
def drops_channels_in_every_block(world):
    assert not dropping(world.prepare().model, layers.SpatialDropout2D)
    model = world.prepare(spatial_dropout=0.3).model
    found = dropping(model, layers.SpatialDropout2D)
    assert len(found) == 3
    for layer in found:
        maps = dropped(layer, (50, 4, 4, 20)).mean((1, 2))
        assert set(np.unique(maps)) == {0, 1}
        assert_share(maps, 0.3, maps.size)


@case("survival_prob")
def drops_the_branches_of_blocks(world):
    assert not dropping(world.prepare().model, layers.StochasticDepth)
    model = world.prepare(survival_prob=0.4).model
    found = dropping(model, layers.StochasticDepth)
    assert len(found) == 3
    for layer, survival_prob in zip(found, (0.8, 0.6, 0.4), strict=True):
        mask = dropped(layer, (1000, 1, 1, 2))
        assert (mask[..., 0] == mask[..., 1]).all()
        assert_share(mask, 1 - survival_prob, 1000)


def dropblocks(model):
    """DropBlock layers of each group that has some."""
    groups = {
        f"group{i}": layers.dropblock_layers(
            model.get_layer(f"group{i}_block1")
        )
        for i in (1, 2, 3)
    }
    return {group: found for group, found in groups.items() if found}


@case("keep_prob")
def drops_units_in_the_last_two_groups(world):
    assert not dropblocks(world.prepare().model)
    found = dropblocks(world.prepare(keep_prob=0.6, block_size=1).model)
    for group, rate in (("group2", 0.1), ("group3", 0.4)):
        for layer in found[group]:
            mask = dropped(layer, (50, 4, 4, 20))
            assert_share(mask, rate, mask.size)


@case("block_size")
def is_the_side_of_dropped_blocks(world):
    for size in (2, 5):
        found = dropblocks(world.prepare(keep_prob=0.9, block_size=size).model)
        for layer in (layer for group in found.values() for layer in group):
            mask = dropped(layer, (40, 16, 16, 4))
            lines = np.pad(mask.transpose(0, 3, 1, 2).reshape(-1, 16), 1)
            edges = np.diff(lines.ravel().astype(int))
            lengths = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
            assert lengths.min() == size  # longer if blocks overlap


@case("dropblock_groups")
def selects_the_groups_with_dropblock(world):
    for groups, expected in (
        (None, {"group2": 2, "group3": 2}),
        ((1,), {"group1": 2}),
        ((1, 3), {"group1": 2, "group3": 2}),
    ):
        model = world.prepare(keep_prob=0.9, dropblock_groups=groups).model
        found = dropblocks(model)
        assert {group: len(found[group]) for group in found} == expected


@case("dropblock_skip")
def decides_whether_shortcuts_drop_too(world):
    for skip in (True, False):
        model = world.prepare(keep_prob=0.5, dropblock_skip=skip).model
        # With a zero kernel, the last block returns only its shortcut.
        block = model.get_layer("group3_block1")
        block.convs[-1].kernel.assign(np.zeros(block.convs[-1].kernel.shape))
        x = np.random.default_rng(0).normal(size=(4, *block.input.shape[1:]))
        first, second = (
            to_numpy(block(x.astype("float32"), training=True))
            for _ in range(2)
        )
        assert np.array_equal(first, second) == (not skip)


@case("dtype")
def is_the_policy_of_the_network(world):
    for dtype, computed in (
        ("float32", "float32"),
        ("mixed_bfloat16", "bfloat16"),
        ("mixed_float16", "float16"),
    ):
        model = world.prepare(dtype=dtype).model
        assert model.get_layer("group2").compute_dtype == computed
        assert {v.dtype for v in model.trainable_variables} == {"float32"}
        assert model.output.dtype == "float32"


# --- fine-tuning


def initial(world):
    """A trained network with seven classes, and the path of its weights."""
    source = models.WRN(10, 1, num_classes=7, input_shape=(8, 8, 3))
    rng = np.random.default_rng(3)
    source.set_weights([rng.random(w.shape) for w in source.get_weights()])
    path = str(world.folder / "source.weights.h5")
    source.save_weights(path)
    return source, path


@case("initial_weights")
def are_copied_to_all_layers_but_the_head(world):
    source, path = initial(world)
    model = world.prepare(initial_weights=path, keep_prob=0.9).model
    assert model.output.shape == (None, CLASSES)
    for layer in source.layers:
        if layer.name != "logits":
            here = model.get_layer(layer.name).weights
            kept = [v for v in here if v.name != "keep_prob"]
            for a, b in zip(layer.weights, kept, strict=True):
                assert np.array_equal(to_numpy(a), to_numpy(b)), b.path


@case("freeze")
def keeps_weights_and_statistics_of_groups(world):
    _, path = initial(world)
    run = world.prepare(initial_weights=path, freeze=2)
    before = {v.path: to_numpy(v).copy() for v in run.model.weights}
    run.model.fit(*fed(run.train), verbose=0)
    same = {
        v.path.split("/")[0]
        for v in run.model.weights
        if np.array_equal(before[v.path], to_numpy(v))
    }
    assert same == {"stem", "group1_block1", "group2_block1"}
    # Frozen norms use their moving statistics in training, too.
    inner = keras.Model(run.model.input, run.model.get_layer("group2").output)
    x = world.arrays["x_test"].astype("float32")
    assert np.array_equal(to_numpy(inner(x, training=True)), inner(x))


@case("head_learning_rate_factor")
def scales_the_steps_of_the_head_alone(world):
    model = world.prepare(head_learning_rate_factor=3.0, momentum=0.0).model
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    model.optimizer.apply(gradients, model.trainable_variables)
    for old, v in zip(before, model.trainable_variables, strict=True):
        step = 0.3 if "logits" in v.path else 0.1
        assert to_numpy(v) == pytest.approx(old - step, abs=1e-6), v.path


# --- loss and optimizer


def moved(model, *, first=0, count=1):
    """Changes of a weight in steps from `first`, with a gradient of 1."""
    weight = model.trainable_variables[0]
    gradient = keras.ops.ones(weight.shape)
    model.optimizer.iterations.assign(first)
    path = [to_numpy(weight).copy()]
    for _ in range(count):
        model.optimizer.apply([gradient], [weight])
        path.append(to_numpy(weight).copy())
    return -np.diff([w.mean(dtype="float64") for w in path])


@case("learning_rate")
def scales_a_step(world):
    for rate in (0.1, 0.03):
        model = world.prepare(learning_rate=rate, momentum=0.0).model
        assert moved(model) == pytest.approx([rate], rel=1e-5)


@case("momentum")
def selects_nesterov_momentum(world):
    for momentum in (0.9, 0.5):
        steps = moved(world.prepare(momentum=momentum).model, count=3)
        # v = m * v + 1 is 1, 1 + m, 1 + m + m^2; the step is 0.1 * (1 + m v).
        velocity = np.cumsum([momentum**i for i in range(3)])
        expected = 0.1 * (1 + momentum * velocity)
        assert steps == pytest.approx(expected, rel=1e-5)


@case("warmup_epochs")
def raises_the_rate_step_by_step(world):
    model = world.prepare(warmup_epochs=2, momentum=0.0).model
    steps = moved(model, count=6)
    expected = [0, 0.025, 0.05, 0.075, 0.1, 0.1]
    assert steps == pytest.approx(expected, rel=1e-4, abs=1e-8)


@case("warmup_steps")
def raises_the_rate_within_an_epoch(world):
    model = world.prepare(warmup_steps=5, momentum=0.0).model
    steps = moved(model, count=6)
    expected = [0, 0.02, 0.04, 0.06, 0.08, 0.1]
    assert steps == pytest.approx(expected, rel=1e-4, abs=1e-8)


@case("learning_rate_drops")
def set_the_epochs_in_which_the_rate_drops(world):
    model = world.prepare(learning_rate_drops=(2, 4), momentum=0.0).model
    steps = moved(model, count=4 * STEPS)
    expected = [0.1] * 2 + [0.02] * 4 + [0.004] * 2
    assert steps == pytest.approx(expected, rel=1e-4)


@case("learning_rate_schedule")
def selects_drops_or_a_cosine(world):
    model = world.prepare(learning_rate_schedule="cosine", momentum=0.0).model
    steps = moved(model, count=4 * STEPS)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(8) / 8))
    assert steps == pytest.approx(expected, rel=1e-4)


@case("learning_rate_drop_steps")
def set_the_steps_in_which_the_rate_drops(world):
    model = world.prepare(learning_rate_drop_steps=(3, 5), momentum=0.0).model
    steps = moved(model, count=6)
    expected = [0.1] * 3 + [0.02] * 2 + [0.004]
    assert steps == pytest.approx(expected, rel=1e-4)


@case("learning_rate_factor")
def is_what_the_rate_drops_by(world):
    model = world.prepare(
        learning_rate_drops=(2,), learning_rate_factor=0.5, momentum=0.0
    ).model
    assert moved(model, first=STEPS) == pytest.approx([0.05], rel=1e-5)


@case("clip_norm")
def limits_the_gradient_of_all_variables_together(world):
    model = world.prepare(clip_norm=0.5, momentum=0.0).model
    # `moved` gives a gradient of 1 to each weight of one variable.
    count = int(np.prod(model.trainable_variables[0].shape))
    assert moved(model) == pytest.approx([0.1 * 0.5 / count**0.5], rel=1e-3)


@case("reset_momentum")
def resets_the_velocity_at_a_drop(world):
    for reset, step in ((False, 0.02 * (1 + 0.9 * 2.71)), (True, 0.02 * 1.9)):
        model = world.prepare(
            learning_rate_drops=(2,), reset_momentum=reset
        ).model
        steps = moved(model, count=STEPS + 1)  # velocities 1, 1.9 and 2.71
        assert steps[STEPS] == pytest.approx(step, rel=1e-4)


def regularization(model):
    """Regularization loss of a network."""
    return sum(float(to_numpy(loss)) for loss in model.losses)


def halved_squares(variables):
    squares = [np.square(to_numpy(v), dtype="float64") for v in variables]
    return sum(square.sum() for square in squares) / 2


@case("weight_decay")
def adds_half_the_square_of_every_weight(world):
    for decay in (0.0, 5e-4, 1e-2):
        model = world.prepare(weight_decay=decay).model
        expected = decay * halved_squares(model.trainable_variables)
        assert regularization(model) == pytest.approx(expected, rel=1e-5)


@case("decay_norms")
def decides_whether_gamma_and_beta_decay(world):
    model = world.prepare(decay_norms=False).model
    others = [
        v for v in model.trainable_variables if v.name in ("kernel", "bias")
    ]
    # Two norms in each block, and one before the classifier.
    assert len(model.trainable_variables) - len(others) == 2 * (3 * 2 + 1)
    expected = 5e-4 * halved_squares(others)
    assert regularization(model) == pytest.approx(expected, rel=1e-5)


@case("label_smoothing")
def spreads_the_labels_over_all_classes(world):
    logits = np.array([[2.0, 0.0, -1.0]], "float32")
    label = np.array([[0, 1, 0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum())
    for smoothing in (0.0, 0.3):
        loss = world.prepare(label_smoothing=smoothing).model.loss
        expected = (1 - smoothing) * -log_p[0, 1] - smoothing * log_p.mean()
        assert float(loss(label, logits)) == pytest.approx(expected, rel=1e-5)


# --- the data


@case("dataset")
def is_where_images_and_labels_come_from(world):
    other = world.folder / "other.npz"
    arrays = write_images(other, seed=1)
    for path, expected in (
        (world.recipe.dataset, world.arrays),
        (other, arrays),
    ):
        run = world.prepare(dataset=str(path))
        images, labels = fed(run.train)
        assert in_some_order(images, expected["x_train"])
        places = [
            np.flatnonzero((expected["x_train"] == x).all((1, 2, 3)))[0]
            for x in images
        ]
        assert (labels.argmax(1) == expected["y_train"][places]).all()
        assert np.array_equal(fed(run.scored)[0], expected["x_test"])


class Builder:
    """A fake TFDS builder with only the attributes that are used."""

    def __init__(self, folder):
        self.data_path = folder
        features = {
            "image": types.SimpleNamespace(shape=(None, None, 3)),
            "label": types.SimpleNamespace(names=["a", "b", "c"]),
        }
        names = ("train", "test", "extra", "held_out")
        self.splits = {
            name: types.SimpleNamespace(num_examples=TRAIN, level=level)
            for level, name in enumerate(names)
        }
        self.info = types.SimpleNamespace(splits=self.splits, features=features)

    def images(self, split):
        """Twelve images of 10 x 10 pixels, each with a single gray level."""
        levels = 20 * np.arange(TRAIN) + self.splits[split].level
        return np.broadcast_to(
            levels.astype("uint8")[:, None, None, None], (TRAIN, 10, 10, 3)
        )

    def as_dataset(self, split):
        import tensorflow as tf

        labels = np.arange(TRAIN) % CLASSES
        return tf.data.Dataset.from_tensor_slices(
            {"image": self.images(split), "label": labels}
        )


def tfds_of(world):
    """A fake data set `theirs` of TFDS, and the keys that select it."""
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    builder = Builder(world.folder)
    world.monkeypatch.setattr(
        tensorflow_datasets, "builder", lambda name, data_dir: builder
    )
    return builder, {"dataset": "theirs", "image_size": 10}


@case("train_split")
def selects_the_training_images(world):
    builder, theirs = tfds_of(world)
    for split in ("train", "extra"):
        run = world.prepare(train_split=split, **theirs)
        assert in_some_order(fed(run.train)[0], builder.images(split))
        assert np.array_equal(fed(run.scored)[0], builder.images("test"))


@case("test_split")
def selects_the_test_images(world):
    builder, theirs = tfds_of(world)
    for split in ("test", "held_out"):
        run = world.prepare(test_split=split, **theirs)
        assert np.array_equal(fed(run.scored)[0], builder.images(split))
        assert in_some_order(fed(run.train)[0], builder.images("train"))


@case("validation_split")
def is_held_out_and_scored_by_epochs(world):
    assert world.prepare().plan.epoch_split == "test"
    run = world.prepare(validation_split=0.25, batch_size=3)
    assert run.plan.epoch_split == "validation"
    trained, held_out = (fed(b) for b in (run.train, run.scored))
    assert len(held_out[0]) == 3 and len(trained[0]) == 9
    images = np.concatenate([trained[0], held_out[0]])
    assert in_some_order(images, world.arrays["x_train"])
    # One image of each class.
    assert np.array_equal(held_out[1].sum(0), [1, 1, 1])


@case("skip_broken")
def decides_whether_broken_files_are_skipped(world):
    tf = pytest.importorskip("tensorflow")
    root = world.folder / "photographs"
    for split, count in (("train", 6), ("test", 4)):
        for name in ("cats", "dogs"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = np.full((8, 8, 3), 20 * i, "uint8")
                encoded = tf.io.encode_png(image).numpy()
                (folder / f"{i}.png").write_bytes(encoded)
    broken = root / "train" / "cats" / "0.png"
    broken.write_bytes(b"no image")
    changes = {"dataset": f"folder:{root}", "image_size": 8}
    with pytest.raises(DataError, match=str(broken)):
        world.prepare(**changes)
    run = world.prepare(skip_broken=True, **changes)
    assert run.plan.dataset.size("train") == 11


@case("image_size")
def is_the_side_of_the_images(world):
    _, theirs = tfds_of(world)
    for size in (8, 12):
        run = world.prepare(**(theirs | {"image_size": size}))
        for batches in (run.train, run.scored):
            assert batches[0][0].shape == (6, size, size, 3)
        assert run.model.input.shape[1:] == (size, size, 3)


@case("data_dir")
def is_where_tensorflow_datasets_looks(world):
    pytest.importorskip("tensorflow_datasets")

    def refuse(*args, **kwargs):
        raise OSError("no network")

    world.monkeypatch.setattr(urllib.request, "urlopen", refuse)
    folder = str(world.folder / "nothing")
    with pytest.raises(DataError, match=folder):
        world.prepare(dataset="svhn_cropped", data_dir=folder)


def windows(images, flip):
    """Dict from the bytes of each possible crop to its origin.

    The origin is (image, top, left, mirrored). At the reflected edges, some
    windows are equal to mirrored ones. They count as not mirrored.
    """
    found = {}
    for mirrored in (False, True) if flip else (False,):
        for i, image in enumerate(images):
            padded = np.pad(image, [(4, 4), (4, 4), (0, 0)], mode="reflect")
            for top in range(9):
                for left in range(9):
                    window = padded[top : top + 8, left : left + 8]
                    window = window[:, ::-1] if mirrored else window
                    place = (i, top, left, mirrored)
                    found.setdefault(window.tobytes(), place)
    return found


@case("augmentation")
def crops_and_flips_only_training_images(world):
    train, test = world.arrays["x_train"], world.arrays["x_test"]
    assert in_some_order(world.fed(augmentation="none")[0], train)
    for augmentation, mirrors in (
        ("crop", {False}),
        ("crop_flip", {False, True}),
    ):
        run = world.prepare(augmentation=augmentation)
        assert np.array_equal(fed(run.scored)[0], test)
        places = windows(train, flip=augmentation == "crop_flip")
        seen = [
            places[np.uint8(x).tobytes()]  # KeyError if it is not a crop
            for epoch in range(3)
            for x in fed(run.train, epoch)[0]
        ]
        image, top, left, mirrored = zip(*seen, strict=True)
        assert sorted(image) == sorted(3 * [*range(TRAIN)])
        # 36 draws from 81 positions give 29 different ones on average.
        assert len({*zip(top, left, strict=True)}) >= 20
        assert set(mirrored) == mirrors


@case("mean")
def is_subtracted(world):
    run, mean = world.prepare(mean=(10.0, 20.0, 30.0)), [10, 20, 30]
    assert in_some_order(fed(run.train)[0] + mean, world.arrays["x_train"])
    assert np.array_equal(fed(run.scored)[0] + mean, world.arrays["x_test"])
    # By default it is the mean of the training images.
    resolved = world.prepare(mean=None).recipe
    measured = world.arrays["x_train"].mean((0, 1, 2))
    assert resolved.mean == pytest.approx(measured, abs=0.051)


@case("std")
def is_divided_by(world):
    run, std = world.prepare(std=(2.0, 4.0, 8.0)), [2, 4, 8]
    assert in_some_order(fed(run.train)[0] * std, world.arrays["x_train"])
    assert np.array_equal(fed(run.scored)[0] * std, world.arrays["x_test"])
    resolved = world.prepare(std=None).recipe
    measured = world.arrays["x_train"].std((0, 1, 2))
    assert resolved.std == pytest.approx(measured, abs=0.051)


@case("cutout")
def blanks_a_square_of_training_images(world):
    # Black becomes 5, so that only blanked pixels are 0.
    mean = (-5.0, -5.0, -5.0)
    assert (world.fed(mean=mean)[0] > 0).all()
    for size in (2, 4):
        run = world.prepare(cutout=size, mean=mean)
        areas = (fed(run.train)[0] == 0).all(-1).sum((1, 2))
        assert areas.min() >= (size // 2) ** 2  # if cut by two edges
        assert areas.max() == size**2
        assert (fed(run.scored)[0] > 0).all()


@case("mixup")
def mixes_images_and_their_labels(world):
    train = world.arrays["x_train"].astype("float32")
    labels = np.eye(CLASSES)[world.arrays["y_train"]]
    images, mixed_labels = world.fed(mixup=1.0)
    mixed = 0
    for image, label in zip(images, mixed_labels, strict=True):
        # Weights of the training images in each mixed image.
        flat = train.reshape(TRAIN, -1)
        shares, *_ = np.linalg.lstsq(flat.T, image.ravel(), rcond=None)
        assert shares.sum() == pytest.approx(1, abs=1e-3)
        assert (shares > 1e-3).sum() <= 2
        assert label == pytest.approx(shares @ labels, abs=1e-3)
        mixed += (shares > 1e-3).sum() == 2
    # On average, a permutation leaves one image in its place.
    assert mixed > TRAIN // 2
    _, plain = world.fed(mixup=0.0)
    assert set(np.unique(plain)) == {0, 1}


@case("seed")
def decides_weights_masks_order_and_crops(world):
    def drawn(seed):
        run = world.prepare(seed=seed, keep_prob=0.5, augmentation="crop")
        (layer, *_) = layers.dropblock_layers(run.model)
        crops, _ = fed(run.train)
        images = [places[np.uint8(x).tobytes()][0] for x in crops]
        return {
            "weights": run.model.get_layer("stem").get_weights()[0],
            "masks": dropped(layer, (4, 8, 8, 4)),
            "order": images,
            # Sort by the order of the data set.
            "crops": crops[np.argsort(images)],
        }

    places = windows(world.arrays["x_train"], flip=False)
    first, again, other = drawn(1), drawn(1), drawn(2)
    for name, value in first.items():
        assert np.array_equal(value, again[name]), name
        assert not np.array_equal(value, other[name]), name


# --- the training


@case("batch_size")
def is_the_number_of_images_in_a_step(world):
    for size in (4, 6):
        run = world.prepare(batch_size=size)
        assert len(run.train) == TRAIN // size
        assert {len(run.train[i][0]) for i in range(len(run.train))} == {size}
        sizes = [len(run.scored[i][0]) for i in range(len(run.scored))]
        assert sizes == ([4, 2] if size == 4 else [6])


def fit_arguments(world, **changes):
    """(model, arguments of `fit`) of a run with these changes."""
    seen = []

    def fit(self, *args, **kwargs):
        seen.append((self, kwargs))
        raise Stop

    with world.monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit)
        folder = world.folder / str(changes)
        with pytest.raises(Stop):
            trainer.fit(world.with_(**changes), folder, verbose=0)
    return seen[0]


@case("epochs")
def is_the_length_of_the_run(world):
    for epochs in (1, 4):
        _, arguments = fit_arguments(world, epochs=epochs)
        assert arguments["epochs"] == epochs
        # DropBlock's schedule ends with the run.
        assert keep_prob_at(world, 1.0, epochs=epochs) == pytest.approx(0.8)


def keep_prob_at(world, progress, *, epochs=4, **changes):
    """keep_prob of the last group at a progress, for a final keep_prob 0.8."""
    changes = {"keep_prob": 0.8, "epochs": epochs, **changes}
    model, arguments = fit_arguments(world, **changes)
    (scheduler,) = (
        callback
        for callback in arguments["callbacks"].callbacks
        if isinstance(callback, KeepProbScheduler)
    )
    scheduler.on_train_begin()
    scheduler.batches.epoch = round(progress * epochs)
    scheduler.on_epoch_begin(scheduler.batches.epoch)
    (layer, *_) = dropblocks(model)["group3"]
    return float(to_numpy(layer.keep_prob))


@case("schedule")
def changes_keep_prob_during_the_run(world):
    for schedule, expected in (
        ("constant", 0.8),
        ("linear", 1 - 0.2 / 4),
        ("cosine", 1 - 0.2 * (1 - 0.5**0.5) / 2),  # of an eighth of a turn
    ):
        at_a_quarter = keep_prob_at(world, 0.25, schedule=schedule)
        # Within an epoch, keep_prob changes in steps of 1e-4.
        assert at_a_quarter == pytest.approx(expected, abs=1e-4)


@case("strategy")
def spreads_the_network_over_devices(world):
    assert world.prepare()._copy is None
    if BACKEND == "tensorflow":
        for strategy, count in (("default", 1), ("mirrored", 2)):
            model = world.prepare(strategy=strategy).model
            kernel = model.trainable_variables[0].value
            assert len(getattr(kernel, "values", [kernel])) == count
    elif BACKEND == "jax":
        # There is also a copy on one device, for work of a single process.
        # Distribution is tested with several processes in test_processes.py.
        assert world.prepare(strategy="data_parallel")._copy is not None
    for strategy, backend in (
        ("mirrored", "tensorflow"),
        ("data_parallel", "jax"),
    ):
        if BACKEND != backend:
            with pytest.raises(RecipeError, match=f"`strategy` {strategy}"):
                world.prepare(strategy=strategy)


@case("synchronized_norms")
def joins_the_statistics_of_replicas(world):
    if BACKEND != "tensorflow":
        with pytest.raises(RecipeError, match="needs `strategy` mirrored"):
            world.prepare(synchronized_norms=True)
        return
    for synchronized in (True, False):
        model = world.prepare(
            strategy="mirrored", synchronized_norms=synchronized
        ).model
        norms = dropping(model, keras.layers.BatchNormalization)
        assert {norm.synchronized for norm in norms} == {synchronized}


@case("jit_compile")
def is_passed_to_compile(world):
    if BACKEND == "torch":
        with pytest.raises(RecipeError, match="`jit_compile` must be false"):
            world.prepare(jit_compile=True)
        return
    for value in (True, False):
        model = world.prepare(jit_compile=value).model
        assert model.jit_compile == (value or BACKEND == "jax")


@case("data_on_device")
def puts_images_on_the_device(world):
    if BACKEND != "jax":
        with pytest.raises(RecipeError, match="`data_on_device` needs the JAX"):
            world.prepare(data_on_device=True)
        return
    for value in (True, False):
        for batches in (
            world.prepare(data_on_device=value).train,
            world.prepare(data_on_device=value).scored,
        ):
            assert isinstance(batches[0][0], np.ndarray) == (not value)


@case("steps_per_execution")
def is_passed_to_compile_too(world):
    if BACKEND == "torch":
        with pytest.raises(RecipeError, match="`steps_per_execution` must be"):
            world.prepare(steps_per_execution=2)
        return
    for steps in (1, 2):
        model = world.prepare(steps_per_execution=steps).model
        assert model.steps_per_execution == steps
