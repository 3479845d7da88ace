"""Predictions of detectors: boxes with classes, in an image's own pixels."""

import functools
import typing

import keras
import numpy as np

from keras_dropblock.analysis.detection import draw_boxes
from keras_dropblock.analysis.objects import Objects, detected_anchors
from keras_dropblock.analysis.segmentation import palette
from keras_dropblock.data import framing
from keras_dropblock.data import images as image_reading
from keras_dropblock.tasks.predictor import (
    Predictor,
    names_of,
    outputs_of,
    serving_inputs,
)

CLEAR = 0.3  # least score of detections that are drawn


class BoxPredictor(Predictor):
    """Predictions with a trained `RetinaNet`: see `Detection`."""

    any_size: typing.ClassVar = True
    explained_layer: typing.ClassVar = "group4"

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Find the objects of each image.

        Returns:
            For each image, a dict of `boxes` (n, 4), y and x of the corners
            in the image's own pixels, `scores` (n,) in [0, 1], the highest
            first, and `labels`, n class names. Scores are at least 0.05.
            `top` and `batch_size` have no effect.
        """
        preprocessing = card.preprocessing_for(model)
        names = card.class_names or names_of(model, model.num_classes)
        channels = preprocessing.image_shape[-1]
        tf = image_reading.tensorflow()
        result = []
        for image in image_reading.arrays(images, channels):
            framed = preprocessing.fit(tf.constant(image)).numpy()
            pixels = preprocessing.normalize(framed[None])
            answers = outputs_of(model, pixels)
            found = in_image(answers, 0, image.shape[:2], pixels.shape)
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
        clear = prediction["scores"] >= CLEAR
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


def in_image(answers, row, size, shape):
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
