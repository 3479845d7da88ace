"""Object detection: boxes with classes."""

import dataclasses
import typing

from keras_dropblock import keys
from keras_dropblock.analysis import confusion
from keras_dropblock.analysis.detection import (
    SUMMARY,
    average_precision,
    confusions,
    draw_boxes,
)
from keras_dropblock.analysis.segmentation import palette, stacked
from keras_dropblock.data import images as image_reading
from keras_dropblock.errors import DataError
from keras_dropblock.tasks import backbones
from keras_dropblock.tasks.boxes import CLEAR, BoxPredictor, in_image
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.predictor import names_of, outputs_of
from keras_dropblock.tasks.transfer import FineTuned
from keras_dropblock.tasks.vision import RetinaNet

_SHOWN = 4  # images in the pictures of a run


def _is_depth(convs):
    return 0 <= convs <= 8


@dataclasses.dataclass(frozen=True)
class Detection(BoxPredictor, FineTuned):
    """Object detection with `RetinaNet`, which needs the extra `vision`."""

    min_level: int = keys.key(
        3,
        "finest level of the pyramid; its stride is 2^min_level pixels",
        "2, 3, 4 or 5",
        lambda level: 2 <= level <= 5,
    )
    max_level: int = keys.key(
        7, "coarsest level of the pyramid", "5, 6 or 7", lambda x: 5 <= x <= 7
    )
    head_convs: int = keys.key(
        4, "3x3 convs before the last one of each head", "in [0, 8]", _is_depth
    )
    ap_epochs: int = keys.key(
        10,
        "epochs from one measurement of AP to the next; the last epoch is "
        "always measured",
        ">= 1",
        keys.is_at_least_one,
    )
    frozen_norms: bool = backbones.FROZEN_NORMS

    metrics: typing.ClassVar = tuple(
        Metric(name, title, "%", 100, 2, higher_is_better=True)
        for name, title in (("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"))
    )
    augmentations: typing.ClassVar = {
        "none": {},
        "flip": {"jitter": (1.0, 1.0), "flip": True},
        # As in tensorflow/tpu, models/official/detection.
        "scale_flip": {"jitter": (0.8, 1.2), "flip": True},
    }
    pictures: typing.ClassVar = {
        "confusion.png": "Confusion matrix of detected objects. The last "
        "column has objects that were not detected, the last row detections "
        "without an object.",
        "predictions.png": "The first test images, with their objects and "
        "with the detections of a score of 0.3 or more",
    }
    head_layers: typing.ClassVar = ("classification_head",)
    labels: typing.ClassVar = "boxes"
    draws_epochs: typing.ClassVar = True

    def usual_augmentation(self, dataset):
        return "scale_flip"

    def network(self, notation, dataset, options):
        builder, arguments = super().network(notation, dataset, options)
        backbones.check_notation(notation, builder)
        head = {
            "min_level": self.min_level,
            "max_level": self.max_level,
            "head_convs": self.head_convs,
        }
        return builder, {**arguments, "head": head}

    def build(self, builder, arguments):
        backbone = backbones.backbone_of(builder, arguments)
        return RetinaNet(
            backbone, arguments["num_classes"], **arguments["head"]
        )

    def initialize(self, model):
        super().initialize(model)
        if self.frozen_norms:
            backbones.freeze_norms(model)

    def check_data(self, dataset):
        if not self.class_names(dataset):
            raise DataError("A data set to detect in must have class names.")

    def targets(self, dataset):
        return dict

    def compile(self, model, optimizer, **options):
        model.compile(optimizer, **options)

    def epoch_scores(self, model, batches, epoch, epochs):
        scores = super().epoch_scores(model, batches, epoch, epochs)
        measured = dict.fromkeys(SUMMARY, float("nan"))
        if (epoch + 1) % self.ap_epochs == 0 or epoch + 1 == epochs:
            measured = self.evaluate(model, batches)
        names = [metric.name for metric in self.metrics]
        return {**scores, **{name: measured[name] for name in names}}

    def evaluate(self, model, batches):
        detections = self._detections(model, batches)
        names = names_of(model, model.num_classes)
        return average_precision(batches.labels.objects, detections, names)

    def _detections(self, model, batches):
        """Detections for each image of a split, in the image's own pixels."""
        objects = batches.labels.objects
        detections = []
        for i in range(len(batches)):
            images, _ = batches[i]
            answers = outputs_of(model, images)
            for row in range(len(images)):
                size = objects[len(detections)].size
                detections.append(in_image(answers, row, size, images.shape))
        return detections

    def draw_epoch(self, model, batches, card, path):
        images, labels = batches.read(0)
        # The whole batch, of which every replica gets a part.
        answers = outputs_of(model, batches.normalize(images))
        rows = []
        for i, image in enumerate(images[:_SHOWN]):
            true = labels["labels"][i] >= 0
            found = in_image(answers, i, image.shape[:2], images.shape)
            clear = found["scores"] >= CLEAR
            rows.append(
                [
                    self._drawn(
                        image,
                        labels["boxes"][i][true],
                        labels["labels"][i][true],
                        card,
                    ),
                    self._drawn(
                        image,
                        found["boxes"][clear],
                        found["classes"][clear],
                        card,
                    ),
                ]
            )
        image_reading.write_png(path, stacked(rows))

    def _drawn(self, image, boxes, classes, card):
        names = [card.class_names[i] for i in classes]
        colors = palette(len(card.class_names))[classes]
        return draw_boxes(image, boxes, names, colors)

    def draw(self, model, batches, card, folder):
        detections = self._detections(model, batches)
        names = [*names_of(model, model.num_classes), "nothing"]
        counts = confusions(batches.labels.objects, detections, len(names) - 1)
        confusion.draw(counts, names, folder / "confusion.png")
        self.draw_epoch(model, batches, card, folder / "predictions.png")
