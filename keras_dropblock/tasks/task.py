"""The interface of a task: everything that training by recipe needs."""

import dataclasses
import importlib
import sys
import typing

import keras

from keras_dropblock import keys, models
from keras_dropblock.errors import RecipeError
from keras_dropblock.tasks.metric import Metric


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that a recipe trains: head, loss, metrics, predictions, plots.

    A task is a frozen dataclass. Its fields, created with `keys.key`, are the
    keys of a recipe that only this task uses. A recipe selects the task with
    `task = "classification"`, or with `task = "module:Class"` for a task of
    your own.

    Attributes:
        metrics: the `Metric`s of the scores. Searches compare runs by the
            first one, and the last line of a run shows it.
        augmentations: dict from each value that the recipe's key
            `augmentation` may have to arguments of `data.augmentation.draw`.
        pictures: dict from the name of each file that `draw` writes to its
            caption.
        output_rank: number of axes of the network's output, including the
            batch.
        labels: what the data must have for each image: `"classes"`, `"boxes"`
            or `"masks"`.
        head_layers: names of the layers whose shape depends on the number of
            classes.
        draws_epochs: whether `draw_epoch` draws anything.
        explained_layer: name of the layer whose maps show where the network
            looks, for a task with `objects`.
        any_size: whether answers are places in an image, such as boxes or
            masks. Exports then take images of any size and answer in the
            pixels of each image.
    """

    metrics: typing.ClassVar[tuple[Metric, ...]] = ()
    augmentations: typing.ClassVar[dict[str, dict]] = {"none": {}}
    pictures: typing.ClassVar[dict[str, str]] = {}
    output_rank: typing.ClassVar[int] = 2
    labels: typing.ClassVar[str] = "classes"
    head_layers: typing.ClassVar[tuple[str, ...]] = ("logits",)
    draws_epochs: typing.ClassVar[bool] = False
    any_size: typing.ClassVar[bool] = False
    explained_layer: typing.ClassVar[str | None] = None

    def __post_init__(self):
        keys.check_keys(self)

    @classmethod
    def name(cls):
        """The value of the recipe's key `task`."""
        known = {value: name for name, value in TASKS.items()}
        path = f"{cls.__module__}:{cls.__qualname__}"
        return known.get(path, path)

    def data_options(self):
        """Fields of `data.Options` that follow from the task."""
        return {"labels": self.labels}

    def check_data(self, dataset):
        """Raise DataError for a data set that does not suit this task."""

    def class_names(self, dataset):
        """Names of the model's outputs, or () if they have no names."""
        return dataset.class_names or ()

    def usual_augmentation(self, dataset):
        """Augmentation for a data set if the recipe does not set the key.

        Args:
            dataset: the recipe's key `dataset`.

        Returns:
            A key of `augmentations`.
        """
        return "none"

    def network(self, notation, dataset, options):
        """The builder of the network and its arguments, for the card.

        Args:
            notation: the recipe's key `model`.
            dataset: `Dataset`.
            options: dict of further arguments of the builder (regularization).

        Returns:
            (name of a builder in `models.BUILDERS`, its arguments).
        """
        builder, arguments = models.notation.parse(notation)
        return builder, {
            **arguments,
            **options,
            "input_shape": list(dataset.image_shape),
            "num_classes": self.outputs(dataset),
        }

    def build(self, builder, arguments):
        """Build the network of a card, with random weights.

        Args:
            builder, arguments: see `network`. The shape of the images is in
                Keras's data format.
        """
        return models.BUILDERS[builder](**arguments)

    def initialize(self, model):
        """Change the random weights of a network before training."""

    def initial_preprocessing(self):
        """The `data.Preprocessing` of the weights that training starts from.

        None: random weights, or weights without a card.
        """

    def provenance(self):
        """License and origin of the weights that training starts from.

        Returns:
            Dict of arguments for `hub.Card`; {} for random weights.
        """
        return {}

    def learning_rate_factors(self):
        """Dict from a layer's name to the factor of its learning rate."""
        return {}

    def outputs(self, dataset):
        """Number of outputs of the network."""
        return len(self.class_names(dataset))

    def targets(self, dataset):
        """A function from an array of labels to the targets of the loss."""
        raise NotImplementedError

    def mixing(self):
        """Additional arguments of `data.augmentation.draw` in training."""
        return {}

    def loss(self):
        """The loss for `compile`."""
        raise NotImplementedError

    def training_metrics(self):
        """New Keras metrics for `compile`."""
        return []

    def compile(self, model, optimizer, **options):
        """Compile a model to train with this task's loss and metrics.

        Args:
            model: the network.
            optimizer: a Keras optimizer.
            **options: further arguments of `keras.Model.compile`.
        """
        model.compile(
            optimizer, self.loss(), metrics=self.training_metrics(), **options
        )

    def epoch_scores(self, model, batches, epoch, epochs):
        """Scores of a split for the log of an epoch, the loss included.

        The names must be the same in every epoch.

        Args:
            model: the compiled model.
            batches: `data.Batches` of the split.
            epoch: number of the epoch, from 0.
            epochs: number of epochs of the run.
        """
        with batches.for_keras() as read:
            return model.evaluate(read, return_dict=True, verbose=0)

    def evaluate(self, model, batches):
        """Compute the scores of a model on a split.

        Returns:
            Dict from the name of each metric to a number. It also has
            `images`, the number of images.
        """
        with batches.for_keras() as read:
            outputs = model.predict(read, verbose=0)
        return self.scores(outputs, batches.labels)

    def scores(self, outputs, labels):
        """Compute the scores from the model's outputs for a split."""
        raise NotImplementedError

    def answer_scores(self, answers, labels):
        """Compute the scores from the outputs of `serving_model`."""
        raise NotImplementedError

    def serving_model(self, model, preprocessing):
        """A Keras model from raw pixels, 0 to 255, to the task's prediction.

        Args:
            model: a model that takes normalized images.
            preprocessing: `data.Preprocessing`. None: the result takes
                normalized images too.
        """
        raise NotImplementedError

    def output_width(self, model):
        """Number of classes of a model, or None if its outputs do not fit."""
        shapes = [tensor.shape for tensor in model.outputs]
        if [len(shape) for shape in shapes] != [self.output_rank]:
            return None
        return shapes[0][-1]

    def graph_answers(self, model, heads, normalized, sizes, encoded):
        """Answers in a TensorFlow graph, for a task with `any_size`.

        Args:
            model: the network.
            heads: its outputs for a batch.
            normalized: the batch, (batch, height, width, channels).
            sizes: int32 tensor (batch, 2), sizes of the images themselves.
            encoded: whether sizes may differ, so that answers of the size of
                an image must be encoded.

        Returns:
            Dict of tensors with one row for each image.
        """
        raise NotImplementedError

    def answer_difference(self, given, expected, card):
        """Compare an exported answer. Returns a difference as text, or `""`.

        Args:
            given: dict of arrays with one row, from `graph_answers`.
            expected: result of `predict` for the image.
            card: `hub.Card` of the model.
        """
        raise NotImplementedError

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Predict for images: see `keras_dropblock.predict`."""
        raise NotImplementedError

    def objects(self, class_names, labels):
        """The objects of each class in images, for maps and masks.

        Args:
            class_names: names of the classes.
            labels: the labels of the images, as a data set has them.

        Returns:
            A list of `analysis.objects.Objects`. It is empty for tasks whose
            labels do not say where objects are.
        """
        return []

    def lines(self, prediction, card):
        """Columns of text that show what `predict` gives for one image.

        Args:
            prediction: result of `predict` for the image.
            card: `hub.Card` of the model.

        Returns:
            A list of lines, each a tuple of texts.
        """
        return [(label, f"{share:.4f}") for label, share in prediction]

    def picture(self, image, prediction, card):
        """Draw what `predict` gives for an image into the image.

        Args:
            image: uint8 array (height, width, channels).
            prediction: result of `predict` for this image.
            card: `hub.Card` of the model.

        Returns:
            uint8 array of the same size, or None if there is nothing to draw.
        """

    def draw_epoch(self, model, batches, card, path):
        """Draw predictions for the first images of a split into a file.

        Args:
            model: the model after an epoch.
            batches: `data.Batches` of the split that epochs are scored on.
            card: `hub.Card` of the model.
            path: `pathlib.Path` of the image file, ending in `.png`.
        """

    def draw(self, model, batches, card, folder):
        """Write the `pictures` of a trained model into a folder.

        Args:
            model: the trained model.
            batches: `data.Batches` of the test split.
            card: `hub.Card` of the model.
            folder: `pathlib.Path` to write to.
        """


def outputs_of(model, images):
    """The outputs of a model for one batch, as NumPy arrays.

    Not `predict_on_batch`, which with several replicas gives the whole batch
    to each of them.
    """
    return model.predict(images, batch_size=len(images), verbose=0)


def serving_inputs(model, preprocessing):
    """Create the input and the preprocessing of a serving model.

    Args:
        model, preprocessing: see `Task.serving_model`.

    Returns:
        (symbolic float32 images with channels last, symbolic input for
        `model`).
    """
    images = keras.Input(
        models.image_shape(model), dtype="float32", name="images"
    )
    x = images if preprocessing is None else preprocessing.layer()(images)
    if models.data_format(model) == "channels_first":
        x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return images, x


TASKS = {
    "classification": "keras_dropblock.tasks.classification:Classification",
    "detection": "keras_dropblock.tasks.detection:Detection",
    "segmentation": "keras_dropblock.tasks.segmentation:Segmentation",
}


def find(name, *, may_import=True):
    """Find the class of a task.

    Args:
        name: one of `TASKS`, or `"module:Class"` for a subclass of `Task`.

    Raises:
        RecipeError: if there is no such task.
    """
    path = TASKS.get(name, name)
    module, separator, qualname = path.partition(":")
    if not separator:
        raise RecipeError(
            f"`task` must be one of {', '.join(TASKS)}, or module:Class for "
            f"a task of your own. Received: task={keys.shown(name)}. Did you "
            f"mean {keys.nearest(name, TASKS)}?"
        )
    if not (may_import or name in TASKS or module in sys.modules):
        raise RecipeError(
            f"`task` must be one of {', '.join(TASKS)}, or from a module that "
            f"is imported already. Received: task={keys.shown(name)}. If you "
            f"trust it, import {module} first."
        )
    try:
        task = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"`task` must name a class that can be imported. Received: "
            f"task={keys.shown(name)} ({error})."
        ) from error
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise RecipeError(
            f"`task` must be a subclass of keras_dropblock.tasks.Task. "
            f"Received: task={keys.shown(name)}."
        )
    return task
