"""Classification: one class for each image."""

import dataclasses
import re
import typing

import keras
import numpy as np

from keras_dropblock import keys, models
from keras_dropblock.analysis import cam, confusion
from keras_dropblock.analysis.scores import scores
from keras_dropblock.data import images as image_reading
from keras_dropblock.errors import DataError
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.predictor import serving_inputs
from keras_dropblock.tasks.transfer import FineTuned

# Digits are not flipped, because a mirrored digit is not a digit. SVHN is not
# augmented, as in the Wide ResNet paper.
_USUAL_AUGMENTATION = {
    "cifar10": "crop_flip",
    "cifar100": "crop_flip",
    "fashion_mnist": "crop_flip",
    "digits": "crop",
    "mnist": "crop",
    "imagenet2012": "resized_crop_flip",
    "imagenette": "resized_crop_flip",
}
_AT_ONCE = 1024  # images in memory at the same time in `probabilities`


@dataclasses.dataclass(frozen=True)
class Classification(FineTuned):
    """Classification: one class for each image, one logit for each class."""

    label_smoothing: float = keys.key(
        0.0,
        "share of the target that is spread equally over all classes",
        "in [0, 1)",
        keys.is_rate,
    )
    mixup: float = keys.key(
        0.0,
        "alpha of Beta(alpha, alpha), the distribution of the weight with "
        "which pairs of images and their labels are mixed; 0: no mixup",
        ">= 0 and finite",
        keys.is_not_negative,
    )

    head_learning_rate_factor: float = keys.key(
        1.0,
        "learning rate of the head, divided by that of the other layers",
        "> 0 and finite",
        keys.is_positive,
    )

    metrics: typing.ClassVar = (
        Metric(
            "accuracy",
            "accuracy",
            "%",
            100,
            2,
            higher_is_better=True,
            complement="error",
            tolerance=2e-3,
        ),
        Metric(
            "top5",
            "top-5 accuracy",
            "%",
            100,
            2,
            higher_is_better=True,
            complement="top-5 error",
            tolerance=2e-3,
        ),
        Metric("nll", "NLL", "nats", 1, 4),
        Metric("ece", "ECE", "%", 100, 2),
    )
    pictures: typing.ClassVar = {
        "confusion.png": "Confusion matrix",
        "cam.png": "The first test images of some classes, and the class "
        "activation map of the predicted class (Zhou et al. 2016). The names "
        "of wrong predictions are red.",
    }
    # Crops from images padded by 4 pixels, and flips. The last entry is for
    # photographs, which are read from disk when they are needed.
    augmentations: typing.ClassVar = {
        "none": {"pad": 0, "flip": False},
        "crop": {"pad": 4, "flip": False},
        "crop_flip": {"pad": 4, "flip": True},
        "resized_crop_flip": {},
    }

    def check_data(self, dataset):
        if dataset.class_names is not None:
            return  # `targets` checks each batch
        classes = len(self.class_names(dataset))
        for split in dataset.splits:
            labels = np.asarray(dataset.labels(split))
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise DataError(
                    "Labels must be one whole number for each image, not "
                    f"one-hot rows. Received in {split}: {labels.dtype} "
                    f"{labels.shape}."
                )
            low, high = (int(f(initial=0)) for f in (labels.min, labels.max))
            if low < 0 or high >= classes:
                raise DataError(
                    "Labels must start from 0, and every class must occur in "
                    f"training. Received in {split}: labels from {low} to "
                    f"{high}, but training has {classes} classes."
                )

    def class_names(self, dataset):
        """Names from the data set, or 0, 1, ... up to the largest label."""
        if dataset.class_names is not None:
            return dataset.class_names
        labels = np.asarray(dataset.labels("train"))
        if labels.dtype.kind not in "iu":
            return ()
        return tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))

    def usual_augmentation(self, dataset):
        # Without the version or configuration that may follow the name.
        if dataset.endswith(".npz"):
            return "none"
        return _USUAL_AUGMENTATION.get(re.split("[:/]", dataset)[0], "none")

    def targets(self, dataset):
        rows = np.eye(len(self.class_names(dataset)), dtype="float32")

        def one_hot(labels):
            low, high = labels.min(), labels.max()
            if low < 0 or high >= len(rows):
                raise DataError(
                    f"Labels must be from 0 to {len(rows) - 1}. Received: "
                    f"labels from {low} to {high}."
                )
            return rows[labels]

        return one_hot

    def mixing(self):
        return {"mixup": self.mixup}

    def learning_rate_factors(self):
        if self.head_learning_rate_factor == 1.0:
            return {}
        return {"logits": self.head_learning_rate_factor}

    def loss(self):
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=self.label_smoothing
        )

    def training_metrics(self):
        # An object, not a name: Keras creates a metric given by name in the
        # first step, which TensorFlow would then trace twice.
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def scores(self, outputs, labels):
        return scores(outputs, labels)

    def answer_scores(self, answers, labels):
        return scores(np.log(np.maximum(answers, 1e-9)), labels)

    def serving_model(self, model, preprocessing):
        """Model from (batch, height, width, channels) to probabilities."""
        images, x = serving_inputs(model, preprocessing)
        logits = model(x, training=False)
        probabilities = keras.layers.Softmax(
            dtype="float32", name="probabilities"
        )(logits)
        return keras.Model(images, probabilities, name=f"{model.name}_served")

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Find the most likely classes of each image.

        Returns:
            For each image, a list of `top` pairs (label, probability), the
            most likely first. The list is shorter if there are fewer classes.
        """
        if top < 1:
            raise ValueError(f"`top` must be >= 1. Received: top={top}.")
        probabilities = self.probabilities(
            model, card, images, batch_size=batch_size
        )
        names = card.class_names or [
            str(i) for i in range(probabilities.shape[1])
        ]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [(names[i], float(row[i])) for i in order]
            for row, order in zip(probabilities, best, strict=True)
        ]

    def probabilities(self, model, card, images, *, batch_size=128):
        """float32 array (images, classes): see `keras_dropblock.predict`."""
        preprocessing = card.preprocessing_for(model)
        results = [np.zeros((0, model.output_shape[-1]), "float32")]
        for start in range(0, len(images), _AT_ONCE):
            pixels = image_reading.read_all(
                images[start : start + _AT_ONCE], preprocessing, start
            )
            x = preprocessing.normalize(pixels)
            if models.data_format(model) == "channels_first":
                x = np.moveaxis(x, -1, 1)
            logits = model.predict(x, batch_size=batch_size, verbose=0)
            softmax = keras.ops.softmax(logits.astype("float32"))
            results.append(keras.ops.convert_to_numpy(softmax))
        return np.concatenate(results)

    def draw(self, model, batches, card, folder):
        with batches.for_keras() as read:
            outputs = model.predict(read, verbose=0)
        names = card.class_names or [*map(str, range(outputs.shape[1]))]
        predicted = outputs.argmax(1)
        matrix = confusion.confusion_matrix(
            batches.labels, predicted, len(names)
        )
        confusion.draw(matrix, names, folder / "confusion.png")
        images, labels = map(np.asarray, batches.read(0))
        _, firsts = np.unique(labels, return_index=True)  # of each class
        chosen = np.sort(firsts)[:8]
        cam.draw(
            model,
            batches.normalize,
            images[chosen],
            labels[chosen],
            names,
            folder / "cam.png",
        )
