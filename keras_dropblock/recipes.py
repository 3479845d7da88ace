"""Recipes: all that decides how a model is trained, in one flat TOML file."""

import dataclasses
import difflib
import json
import math
import pathlib
import re
import typing

from keras_dropblock import files, schedules
from keras_dropblock.recipe_text import (
    LONGEST,
    RecipeError,
    is_writable,
    key_and_value,
    parse,
    shown,
)

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
STRATEGIES = ("default", "mirrored", "data_parallel")
# Arguments of `data.augment.draw`: crops from images padded by 4 pixels,
# flips. The last is for photographs, which are read from disk as needed.
AUGMENTATIONS = {
    "none": {"pad": 0, "flip": False},
    "crop": {"pad": 4, "flip": False},
    "crop_flip": {"pad": 4, "flip": True},
    "resized_crop_flip": {},
}
# A mirrored digit is another sign; the Wide ResNet paper leaves SVHN as it is.
_USUAL_AUGMENTATION = {
    "cifar10": "crop_flip",
    "cifar100": "crop_flip",
    "fashion_mnist": "crop_flip",
    "digits": "crop",
    "mnist": "crop",
    "imagenet2012": "resized_crop_flip",
    "imagenette": "resized_crop_flip",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run is made of; the defaults are the Wide ResNet paper's.

    Keys whose default is None are decided by the data set or the network;
    what the data set decides stands resolved in the run's `recipe.toml`.
    """

    model: str = "WRN-16-4"  # the paper's notation, WRN-40-2-B(3,1,3)
    zero_init: bool = False  # ResNets: each block starts as its shortcut

    # Regularisers, alone or together; each is off by default.
    dropout: float = 0.0  # rate between the convs of a block
    spatial_dropout: float = 0.0  # rate, in the same places
    survival_prob: float = 1.0  # stochastic depth's, in the last block
    cutout: int = 0  # side of the square, in pixels
    mixup: float = 0.0  # alpha
    label_smoothing: float = 0.0
    keep_prob: float = 1.0  # of DropBlock, at the end of its schedule
    block_size: int = 7  # of DropBlock, in units of the feature map
    dropblock_groups: tuple[int, ...] | None = None  # None: the last two
    dropblock_skip: bool = True  # on the shortcuts too
    schedule: str = "linear"  # of keep_prob

    dataset: str = "cifar10"  # digits, a .npz file, or TFDS's name
    data_dir: str | None = None  # folder of TFDS; None: its default
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None  # pixels; None: images as they are
    # none, crop, crop_flip, or resized_crop_flip: ImageNet's, from disk
    augmentation: str | None = None
    mean: tuple[float, ...] | None = None  # grey levels, 0 to 255
    std: tuple[float, ...] | None = None  # grey levels, 0 to 255

    epochs: int = 200
    batch_size: int = 128  # over all replicas
    learning_rate: float = 0.1
    warmup_epochs: int = 0  # in which the rate rises linearly from 0
    learning_rate_drops: tuple[int, ...] = (60, 120, 160)  # epochs, from 1
    learning_rate_factor: float = 0.2  # at each drop
    momentum: float = 0.9  # Nesterov's
    reset_momentum: bool = False  # at each drop, as the original code does
    weight_decay: float = 5e-4  # Torch's meaning, on every variable
    decay_norms: bool = True  # on batch normalisation's gamma and beta too
    seed: int = 0

    # mirrored: tf.distribute.MirroredStrategy; data_parallel: JAX's devices
    strategy: str = "default"
    synchronized_norms: bool = False  # batch statistics over all replicas
    dtype: str = "float32"  # Keras's dtype policy
    jit_compile: bool = False  # XLA on TensorFlow; JAX always compiles
    data_on_device: bool = False  # JAX: images there, augmented there
    steps_per_execution: int = 1  # steps between looks at loss and keep_prob

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(
                self, field.name, _typed(field.name, field.type, value)
            )
        for key, (rule, allowed) in _RULES.items():
            value = getattr(self, key)
            if value is not None and not allowed(value):
                raise RecipeError(
                    f"`{key}` must be {rule}. Received: {key}={shown(value)}."
                )

    @property
    def is_streamed(self):
        """Whether images are read from disk as they are needed."""
        return self.augmentation == "resized_crop_flip"

    @property
    def central_part(self):
        """Share of a test image's shorter side that the network sees."""
        return 0.875 if self.is_streamed else 1.0  # 224 of 256 pixels

    @classmethod
    def from_toml(cls, path):
        """Read a recipe file.

        Raises:
            RecipeError: naming the file, and the key with the nearest valid
                one, for a key that is unknown, of a wrong type or out of its
                range; also for a file that cannot be read.
        """
        source = f"Recipe {path}"
        try:
            text = pathlib.Path(path).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise RecipeError(f"{source}: {error}") from error
        return cls().replaced(parse(text, source), source)

    def override(self, assignments):
        """A copy with some keys changed.

        Args:
            assignments: texts that `key_and_value` reads.
        """
        values = dict(key_and_value(text, "--set") for text in assignments)
        return self.replaced(values, source="--set")

    def replaced(self, values, source):
        """A copy with the values of a dict; an error names the source."""
        known = [field.name for field in dataclasses.fields(self)]
        for key in values:
            if key not in known:
                key = key[:LONGEST]  # matching takes long with a longer one
                (nearest, *_) = difflib.get_close_matches(
                    key, known, n=1, cutoff=0.0
                )
                raise RecipeError(
                    f"{source}: unknown key `{key}`. Did you mean `{nearest}`?"
                )
        try:
            return dataclasses.replace(self, **values)
        except RecipeError as error:
            raise RecipeError(f"{source}: {error}") from error

    def to_toml(self):
        """The recipe as text that `from_toml` reads back to an equal one."""
        lines = []
        for key, value in dataclasses.asdict(self).items():
            if value is not None:
                if isinstance(value, tuple):
                    value = list(value)
                # Text, numbers, booleans and lists of them are written alike
                # in JSON and TOML, except for one character.
                text = json.dumps(value, ensure_ascii=False)
                text = text.replace("\x7f", "\\u007f")
                lines.append(f"{key} = {text}\n")
        return "".join(lines)

    def write(self, path):
        files.write_text(path, self.to_toml())


def usual_augmentation(dataset):
    """What a data set gets when the recipe says nothing of it, by its name.

    A version or configuration after the name does not matter. Sets that this
    project does not know get none.
    """
    return _USUAL_AUGMENTATION.get(re.split("[:/]", dataset)[0], "none")


def _typed(key, annotation, value):
    """`value` as the type that the annotation names, or RecipeError."""
    options = typing.get_args(annotation)
    if type(None) in options:
        if value is None:
            return None
        annotation = options[0]
    if typing.get_origin(annotation) is tuple:
        (item, _) = typing.get_args(annotation)
        if isinstance(value, list | tuple):
            return tuple(_typed(key, item, element) for element in value)
        kind = f"a list of {item.__name__}s"
    else:
        kind = {"str": "a text", "int": "an int", "bool": "true or false"}.get(
            annotation.__name__, "a number"
        )
        known = type(value) is annotation
        if known or (annotation is float and type(value) is int):
            if is_writable(value):
                return annotation(value)
            kind += " that TOML can hold (64 bits at most; UTF-8)"
    raise RecipeError(
        f"`{key}` must be {kind}. Received: {key}={shown(value)}."
    )


def _positive(value):
    return 0 < value < math.inf


def _one_of(options):
    return f"one of {', '.join(options)}", lambda value: value in options


_RULES = {
    "dropout": ("in [0, 1]", lambda x: 0 <= x <= 1),
    "spatial_dropout": ("in [0, 1]", lambda x: 0 <= x <= 1),
    "survival_prob": ("in (0, 1], the chance to keep", lambda x: 0 < x <= 1),
    "cutout": (">= 0", lambda x: x >= 0),
    "mixup": (">= 0 and finite", lambda x: 0 <= x < math.inf),
    "label_smoothing": ("in [0, 1)", lambda x: 0 <= x < 1),
    "keep_prob": ("in [0, 1], the fraction to keep", lambda x: 0 <= x <= 1),
    "block_size": (">= 1", lambda x: x >= 1),
    "dropblock_groups": (
        "distinct groups >= 1",
        lambda x: len({*x}) == len(x) and min(x, default=1) >= 1,
    ),
    "schedule": _one_of(schedules.BY_NAME),
    "image_size": (">= 1", lambda x: x >= 1),
    "augmentation": _one_of(AUGMENTATIONS),
    "mean": ("finite", lambda x: all(map(math.isfinite, x))),
    "std": ("> 0", lambda x: all(map(_positive, x))),
    "epochs": (">= 1", lambda x: x >= 1),
    "batch_size": (">= 1", lambda x: x >= 1),
    "learning_rate": ("> 0", _positive),
    "warmup_epochs": (">= 0", lambda x: x >= 0),
    "learning_rate_drops": (
        "increasing epochs >= 2, the first counted as 1",
        lambda x: list(x) == sorted({*x}) and min(x, default=2) >= 2,
    ),
    "learning_rate_factor": ("in (0, 1]", lambda x: 0 < x <= 1),
    "momentum": ("in [0, 1)", lambda x: 0 <= x < 1),
    "weight_decay": (">= 0 and finite", lambda x: 0 <= x < math.inf),
    "seed": ("in [0, 2^32)", lambda x: 0 <= x < 2**32),
    "strategy": _one_of(STRATEGIES),
    "steps_per_execution": (">= 1", lambda x: x >= 1),
    "dtype": _one_of(DTYPES),
}
