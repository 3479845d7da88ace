"""Object detection: boxes with classes."""

import dataclasses
import functools
import typing

import keras
import numpy as np

from keras_dropblock import keys
from keras_dropblock.analysis import confusion
from keras_dropblock.analysis.detection import (
    SUMMARY,
    average_precision,
    confusions,
    draw_boxes,
)
from keras_dropblock.analysis.objects import Objects, detected_anchors
from keras_dropblock.analysis.segmentation import palette, stacked
from keras_dropblock.data import framing
from keras_dropblock.data import images as image_reading
from keras_dropblock.errors import DataError
from keras_dropblock.tasks import backbones
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.task import outputs_of, serving_inputs
from keras_dropblock.tasks.transfer import FineTuned
from keras_dropblock.tasks.vision import RetinaNet

_SHOWN = 4  # images in the pictures of a run
_CLEAR = 0.3  # least score of detections that are drawn


def _is_depth(convs):
    return 0 <= convs <= 8


@dataclasses.dataclass(frozen=True)
class Detection(FineTuned):
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
    any_size: typing.ClassVar = True
    explained_layer: typing.ClassVar = "group4"

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
        names = self._names(model)
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
                detections.append(_in_image(answers, row, size, images.shape))
        return detections

    def _names(self, model):
        card = getattr(model, "card", None)
        names = card.class_names if card is not None else ()
        return names or tuple(str(i) for i in range(model.num_classes))

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Find the objects of each image.

        Returns:
            For each image, a dict of `boxes` (n, 4), y and x of the corners
            in the image's own pixels, `scores` (n,) in [0, 1], the highest
            first, and `labels`, n class names. Scores are at least 0.05.
            `top` and `batch_size` have no effect.
        """
        preprocessing = card.preprocessing_for(model)
        names = card.class_names or self._names(model)
        channels = preprocessing.image_shape[-1]
        tf = image_reading.tensorflow()
        result = []
        for image in image_reading.arrays(images, channels):
            framed = preprocessing.fit(tf.constant(image)).numpy()
            pixels = preprocessing.normalize(framed[None])
            answers = outputs_of(model, pixels)
            found = _in_image(answers, 0, image.shape[:2], pixels.shape)
            result.append(
                {
                    "boxes": found["boxes"],
                    "scores": found["scores"],
                    "labels": [names[i] for i in found["classes"]],
                }
            )
        return result

    def serving_model(self, model, preprocessing):
        """Model from pixels of the network's size to its raw outputs."""
        images, x = serving_inputs(model, preprocessing)
        return keras.Model(
            images, model(x, training=False), name=f"{model.name}_served"
        )

    def output_width(self, model):
        names = {"bbox_regression", "cls_logits"}
        if {*getattr(model, "output_names", ())} != names:
            return None
        return model.num_classes

    def graph_answers(self, model, heads, normalized, sizes, encoded):
        import tensorflow as tf

        found = model.decode_predictions(heads, normalized)
        frame = tuple(normalized.shape[1:3])
        content = tf.map_fn(
            lambda size: framing.graph_content_size(size, frame), sizes
        )
        size = tf.cast(tf.tile(sizes, (1, 2)), tf.float32)[:, None]
        scale = tf.cast(tf.tile(content, (1, 2)), tf.float32)[:, None] / size
        valid = found["confidence"] > 0
        boxes = tf.clip_by_value(found["boxes"] / scale, 0.0, size)
        return {
            "boxes": tf.where(valid[..., None], boxes, 0.0),
            "scores": tf.where(valid, found["confidence"], 0.0),
            "labels": tf.where(valid, found["labels"], -1),
            "num_detections": found["num_detections"],
        }

    def answer_difference(self, given, expected, card):
        count = int(given["num_detections"][0])
        boxes, scores = given["boxes"][0, :count], given["scores"][0, :count]
        names = np.array([*card.class_names, ""])
        labels = names[given["labels"][0, :count]]
        # Rounding may decide about the order of detections, and about the
        # last ones.
        missing = 0
        for box, score, label in zip(
            expected["boxes"],
            expected["scores"],
            expected["labels"],
            strict=True,
        ):
            same = (labels == label) & (abs(scores - score) < 1e-3)
            same &= abs(boxes - box).max(axis=1, initial=0) < 0.5
            missing += not same.any()
        allowed = 0.02 * len(expected["boxes"])
        if missing > allowed or abs(count - len(expected["boxes"])) > allowed:
            return (
                f"{count} boxes, which lack {missing} of the "
                f"{len(expected['boxes'])} expected ones"
            )
        return ""

    def objects(self, class_names, labels):
        return [
            Objects(
                name,
                detected_anchors(i),
                functools.partial(labels.masks, i),
            )
            for i, name in enumerate(class_names)
        ]

    def lines(self, prediction, card):
        return [
            (label, f"{score:.4f}", *(f"{x:.1f}" for x in box))
            for label, score, box in zip(
                prediction["labels"],
                prediction["scores"],
                prediction["boxes"],
                strict=True,
            )
        ]

    def picture(self, image, prediction, card):
        clear = prediction["scores"] >= _CLEAR
        names = list(card.class_names)
        labels = [
            label
            for label, shown in zip(prediction["labels"], clear, strict=True)
            if shown
        ]
        texts = [
            f"{label} {score:.2f}"
            for label, score in zip(
                labels, prediction["scores"][clear], strict=True
            )
        ]
        colors = palette(len(names))[[names.index(label) for label in labels]]
        boxes = prediction["boxes"][clear]
        return draw_boxes(image, boxes, texts, colors)

    def draw_epoch(self, model, batches, card, path):
        images, labels = batches.read(0)
        # The whole batch, of which every replica gets a part.
        answers = outputs_of(model, batches.normalize(images))
        rows = []
        for i, image in enumerate(images[:_SHOWN]):
            true = labels["labels"][i] >= 0
            found = _in_image(answers, i, image.shape[:2], images.shape)
            clear = found["scores"] >= _CLEAR
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
        names = [*self._names(model), "nothing"]
        counts = confusions(batches.labels.objects, detections, len(names) - 1)
        confusion.draw(counts, names, folder / "confusion.png")
        self.draw_epoch(model, batches, card, folder / "predictions.png")


def _in_image(answers, row, size, shape):
    """Detections of one image of a batch, in the image's own pixels.

    Args:
        answers: what the network's `predict` gives for the batch.
        row: index of the image.
        size: (height, width) of the image itself.
        shape: shape of the batch of images in frames.
    """
    count = int(answers["num_detections"][row])
    scale = np.tile(framing.scales(size, shape[1:3]), 2)
    limit = np.float32([*size, *size])
    boxes = answers["boxes"][row, :count] / scale
    return {
        "boxes": np.clip(boxes, 0, limit).astype("float32"),
        "scores": answers["confidence"][row, :count],
        "classes": answers["labels"][row, :count].astype(int),
    }
