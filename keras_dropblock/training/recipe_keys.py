"""The keys of a recipe, with their meanings, defaults and ranges."""

import dataclasses
import math

from keras_dropblock import keys, schedules, tasks
from keras_dropblock.data.options import SOURCES
from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import choice, key

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
STRATEGIES = ("default", "mirrored", "data_parallel")
LEARNING_RATE_SCHEDULES = ("drops", "cosine")


def _are_groups(value):
    return len({*value}) == len(value) and min(value, default=1) >= 1


def _are_drops(value):
    return list(value) == sorted({*value}) and min(value, default=2) >= 2


def _are_finite(value):
    return all(map(math.isfinite, value))


def _are_positive(value):
    return all(map(keys.is_positive, value))


def _is_image_size(value):
    if isinstance(value, tuple):
        return len(value) == 2 and min(value) >= 1
    return value >= 1


def _is_fraction_or_name(value):
    return isinstance(value, str) or 0 < value < 1


@dataclasses.dataclass(frozen=True)
class RecipeKeys:
    """The task and the keys that all tasks share. See `recipe.Recipe`."""

    task: tasks.Task = tasks.Classification()
    model: str = key(
        "WRN-16-4",
        "the network in the papers' notation, such as WRN-40-2-B(3,1,3)",
    )
    zero_init: bool = key(
        False,
        "ResNets: whether the last gamma of each block starts at 0, so that "
        "the block starts as its shortcut",
    )

    # Regularization, alone or together; each is off by default.
    dropout: float = key(
        0.0,
        "dropout rate between the convs of a block",
        "in [0, 1]",
        keys.is_share,
    )
    spatial_dropout: float = key(
        0.0,
        "spatial dropout rate between the convs of a block",
        "in [0, 1]",
        keys.is_share,
    )
    shortcut_dropout: float = key(
        0.0,
        "WRN and PreActResNet: dropout rate on the shortcuts",
        "in [0, 1]",
        keys.is_share,
    )
    survival_prob: float = key(
        1.0,
        "probability that stochastic depth keeps the last block",
        "in (0, 1], the probability to keep",
        lambda x: 0 < x <= 1,
    )
    cutout: int = key(
        0,
        "side of the square that cutout blanks, in pixels",
        ">= 0",
        lambda x: x >= 0,
    )
    keep_prob: float = key(
        1.0,
        "DropBlock's keep_prob at the end of its schedule",
        "in [0, 1], the fraction to keep",
        keys.is_share,
    )
    block_size: int = key(
        7,
        "side of DropBlock's blocks, in feature-map pixels",
        ">= 1",
        keys.is_at_least_one,
    )
    dropblock_groups: tuple[int, ...] | None = key(
        None,
        "groups with DropBlock, counted from 1; None: the last two",
        "distinct groups >= 1",
        _are_groups,
    )
    dropblock_skip: bool = key(True, "whether shortcuts have DropBlock too")
    schedule: str = choice(
        "linear", "schedule of keep_prob over the run", schedules.BY_NAME
    )

    dataset: str = key("cifar10", SOURCES)
    data_dir: str | None = key(
        None, "folder of TensorFlow Datasets; None: its default"
    )
    train_split: str = key("train", "split or slice of TensorFlow Datasets")
    validation_split: str | float | None = key(
        None,
        "fraction of the training images to hold out, the same in each class, "
        "or a slice of TensorFlow Datasets; each epoch then evaluates these "
        "images, and the test images are evaluated once, at the end",
        "a fraction in (0, 1) or a slice",
        _is_fraction_or_name,
    )
    test_split: str | float = key(
        "test",
        "split or slice of TensorFlow Datasets; for a folder of images, also "
        "the fraction of images to test on",
        "a fraction in (0, 1) or a split",
        _is_fraction_or_name,
    )
    image_size: int | tuple[int, ...] | None = key(
        None,
        "side to which images are resized, in pixels, or [height, width]; "
        "None: not resized",
        "a side >= 1, or height and width",
        _is_image_size,
    )
    skip_broken: bool = key(
        False,
        "whether to skip and count files of folder:PATH and coco:PATH that "
        "cannot be decoded, and images that coco:PATH lists but lacks",
    )
    augmentation: str | None = key(
        None,
        "one of the task's augmentations; None: the usual one for the data set",
    )
    mean: tuple[float, ...] | None = key(
        None,
        "mean of each channel, on the scale of 0 to 255",
        "finite",
        _are_finite,
    )
    std: tuple[float, ...] | None = key(
        None,
        "standard deviation of each channel, on the scale of 0 to 255",
        "> 0",
        _are_positive,
    )

    epochs: int = key(
        200, "passes over the training images", ">= 1", keys.is_at_least_one
    )
    batch_size: int = key(
        128, "images in a step, over all replicas", ">= 1", keys.is_at_least_one
    )
    clip_norm: float = key(
        0.0,
        "largest norm of the gradient of all variables together; a larger "
        "gradient is scaled down to it; 0: no limit",
        ">= 0 and finite",
        keys.is_not_negative,
    )
    learning_rate: float = key(
        0.1, "highest learning rate", "> 0 and finite", keys.is_positive
    )
    learning_rate_schedule: str = choice(
        "drops",
        "drops: multiplied by learning_rate_factor at each drop; cosine: "
        "decays along half a cosine to 0 at the end",
        LEARNING_RATE_SCHEDULES,
    )
    warmup_epochs: int = key(
        0,
        "epochs in which the learning rate rises linearly from 0",
        ">= 0",
        keys.is_not_negative,
    )
    warmup_steps: int = key(
        0,
        "warmup in steps, instead of warmup_epochs",
        ">= 0",
        keys.is_not_negative,
    )
    learning_rate_drops: tuple[int, ...] = key(
        (60, 120, 160),
        "epochs, counted from 1, at the start of which the rate drops",
        "increasing epochs >= 2, counted from 1",
        _are_drops,
    )
    learning_rate_drop_steps: tuple[int, ...] = key(
        (),
        "steps at which the rate drops, instead of learning_rate_drops",
        "increasing steps >= 2",
        _are_drops,
    )
    learning_rate_factor: float = key(
        0.2,
        "factor of the learning rate at each drop",
        "in (0, 1]",
        lambda x: 0 < x <= 1,
    )
    momentum: float = key(0.9, "Nesterov momentum", "in [0, 1)", keys.is_rate)
    reset_momentum: bool = key(
        False,
        "whether each drop resets the momentum, as the original code does",
    )
    weight_decay: float = key(
        5e-4,
        "weight decay of every variable, as defined in Torch",
        ">= 0 and finite",
        keys.is_not_negative,
    )
    decay_norms: bool = key(
        True, "whether batch normalization's gamma and beta decay too"
    )
    seed: int = key(
        0,
        "seed of the weights, data order, augmentation and dropped units",
        "in [0, 2^32)",
        lambda x: 0 <= x < 2**32,
    )

    strategy: str = choice(
        "default",
        "mirrored: tf.distribute.MirroredStrategy; data_parallel: all JAX "
        "devices; default: one device",
        STRATEGIES,
    )
    synchronized_norms: bool = key(
        False,
        "whether batch normalization uses the statistics of all replicas",
    )
    dtype: str = choice("float32", "Keras's dtype policy", DTYPES)
    jit_compile: bool = key(False, "XLA on TensorFlow; JAX always compiles")
    data_on_device: bool = key(
        False, "JAX: whether to keep and augment the images on the device"
    )
    steps_per_execution: int = key(
        1,
        "steps per compiled call; the loss and keep_prob are updated between "
        "calls",
        ">= 1",
        keys.is_at_least_one,
    )

    def __post_init__(self):
        keys.check_keys(self)
        known = self.task.augmentations
        if self.augmentation is not None and self.augmentation not in known:
            raise RecipeError(
                f"`augmentation` must be one of {', '.join(known)}. Received: "
                f"augmentation={keys.shown(self.augmentation)}."
            )
        self._check_learning_rate()

    def _check_learning_rate(self):
        drops = type(self).learning_rate_drops
        if self.learning_rate_schedule == "cosine":
            for name in (
                "learning_rate_drops",
                "learning_rate_drop_steps",
                "learning_rate_factor",
                "reset_momentum",
            ):
                # `plan.settled` empties the default drops.
                if getattr(self, name) not in (getattr(type(self), name), ()):
                    raise RecipeError(
                        f"`{name}` does not apply to "
                        "learning_rate_schedule = 'cosine', which has no "
                        f"drops. Received: {name}={getattr(self, name)}."
                    )
        for steps, epochs, default in (
            ("learning_rate_drop_steps", "learning_rate_drops", drops),
            ("warmup_steps", "warmup_epochs", 0),
        ):
            given = getattr(self, epochs)
            if getattr(self, steps) and given and given != default:
                raise RecipeError(
                    f"Only one of `{steps}` and `{epochs}` can be set. "
                    f"Received: {steps}={getattr(self, steps)}, "
                    f"{epochs}={given}."
                )
