"""The model inside every export, from raw pixels to answers, and checks."""

import dataclasses
import pathlib

import keras
import numpy as np

from keras_dropblock import models, tasks
from keras_dropblock.errors import DifferenceError, ExportError

TOLERANCE = 1e-5  # in probability


@dataclasses.dataclass(frozen=True)
class Served:
    """A model together with its preprocessing and task, ready to export.

    Attributes:
        model: Keras model from normalized images to the network's outputs.
        card: `hub.Card`.
        task: the card's task.
        preprocessing: the card's preprocessing, with the model's image size.
        answering: Keras model from pixels of 0 to 255 to the task's answer.
    """

    model: keras.Model
    card: object
    task: tasks.Task
    preprocessing: object
    answering: keras.Model

    @classmethod
    def of(cls, model, card=None):
        """Check a model and add preprocessing and the task's answer to it.

        Args:
            model: a built functional or sequential Keras model.
            card: `hub.Card`. None: that of the model.

        Raises:
            ExportError: if the model cannot be exported.
        """
        card = card or getattr(model, "card", None)
        _check(model, card)
        task = tasks.find(card.task)()
        _check_outputs(model, card, task)
        preprocessing = card.preprocessing_for(model)
        answering = task.serving_model(model, preprocessing)
        return cls(model, card, task, preprocessing, answering)

    @property
    def image_shape(self):
        """(height, width, channels)."""
        return self.preprocessing.image_shape

    def answers(self, images):
        """The Keras model's answers to pixels: NumPy arrays."""
        return self.answering.predict_on_batch(images.astype("float32"))

    def random_images(self, count=3):
        """Fixed uint8 noise of shape (count, height, width, channels)."""
        shape = (count, *self.image_shape)
        return np.random.default_rng(0).integers(0, 256, shape, "uint8")

    def write_assets(self, folder, recipe=None):
        """Write `labels.txt`, `card.json` and, if given, `recipe.toml`.

        Args:
            folder: created if it does not exist.
            recipe: text of the recipe that the model was trained with.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.card.class_names:
            names = (" ".join(name.split()) for name in self.card.class_names)
            text = "".join(f"{name}\n" for name in names)
            (folder / "labels.txt").write_text(text, encoding="utf-8")
        self.card.write(folder)
        if recipe is not None:
            (folder / "recipe.toml").write_text(recipe, encoding="utf-8")


def check_same(kind, given, expected):
    """Raise `DifferenceError` unless answers agree within `TOLERANCE`.

    Args:
        kind: name of the export, for the message.
        given, expected: arrays, or dicts of arrays with the same keys. If the
            largest value of an array exceeds 1, as logits and pixels do,
            differences are divided by it.
    """
    if isinstance(expected, dict):
        for name, values in expected.items():
            check_same(kind, given[name], values)
        return
    given, expected = np.asarray(given), np.asarray(expected)
    difference = abs(given - expected).max() / max(abs(expected).max(), 1)
    if not difference <= TOLERANCE:
        raise DifferenceError(
            f"The output of the {kind} differs from the model's by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}. The export was not "
            "kept."
        )


def _check(model, card):
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs the TensorFlow backend. To export a model trained "
            "on another backend, load its weights on TensorFlow. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if card is None:
        raise ExportError(
            "`model` has no card. Load it with `keras_dropblock.load`, or "
            "pass `card=`."
        )
    # `inputs` is None for an unbuilt Sequential and missing for a subclassed
    # model.
    inputs = [tensor.shape for tensor in getattr(model, "inputs", None) or ()]
    if [len(shape) for shape in inputs] != [4]:
        raise ExportError(_not_built(model))
    shape = models.image_shape(model)
    if None in shape or shape[-1] not in (1, 3, 4):
        raise ExportError(
            "`model` must have a fixed image size and 1, 3 or 4 channels, the "
            "numbers that JPEG and PNG files have. Received: images of shape "
            f"{shape}."
        )


def _check_outputs(model, card, task):
    width = task.output_width(model)
    if width is None:
        raise ExportError(_not_built(model))
    if card.class_names and len(card.class_names) != width:
        raise ExportError(
            f"The card must have one class name for each of the {width} "
            f"classes. Received: {len(card.class_names)} names."
        )


def _not_built(model):
    shapes = [
        [tensor.shape for tensor in getattr(model, name, None) or ()]
        for name in ("inputs", "outputs")
    ]
    return (
        "`model` must be a built model from images to the task's outputs, with "
        "one input and one output: a functional model, or a Sequential that "
        "starts with keras.Input or was built by model.build((None, height, "
        f"width, channels)). Received: {type(model).__name__} with inputs "
        f"{shapes[0]} and outputs {shapes[1]}."
    )
