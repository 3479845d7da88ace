"""The interface of a task: everything that training by recipe needs."""

import dataclasses
import typing

from keras_dropblock import keys, models
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.predictor import Predictor

# The tasks of this package: from the value of a recipe's key `task`.
TASKS = {
    "classification": "keras_dropblock.tasks.classification:Classification",
    "detection": "keras_dropblock.tasks.detection:Detection",
    "segmentation": "keras_dropblock.tasks.segmentation:Segmentation",
}


@dataclasses.dataclass(frozen=True)
class Task(Predictor):
    """A task that a recipe trains: head, loss, metrics, predictions, plots.

    A task is a frozen dataclass. Its fields, created with `keys.key`, are the
    keys of a recipe that only this task uses. A recipe selects the task with
    `task = "classification"`, or with `task = "module:Class"` for a task of
    your own.

    The methods that use a trained model, such as `predict`, are those of the
    base class `Predictor`.

    Attributes:
        metrics: the `Metric`s of the scores. Searches compare runs by the
            first one, and the last line of a run shows it.
        augmentations: dict from each value that the recipe's key
            `augmentation` may have to arguments of `data.augmentation.draw`.
        pictures: dict from the name of each file that `draw` writes to its
            caption.
        labels: what the data must have for each image: `"classes"`, `"boxes"`
            or `"masks"`.
        head_layers: names of the layers whose shape depends on the number of
            classes.
        draws_epochs: whether `draw_epoch` draws anything.
    """

    metrics: typing.ClassVar[tuple[Metric, ...]] = ()
    augmentations: typing.ClassVar[dict[str, dict]] = {"none": {}}
    pictures: typing.ClassVar[dict[str, str]] = {}
    labels: typing.ClassVar[str] = "classes"
    head_layers: typing.ClassVar[tuple[str, ...]] = ("logits",)
    draws_epochs: typing.ClassVar[bool] = False

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
