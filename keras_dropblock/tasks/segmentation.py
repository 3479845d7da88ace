"""Semantic segmentation: one class for each pixel."""

import dataclasses
import typing

import keras
import numpy as np

from keras_dropblock import keys
from keras_dropblock.analysis import confusion
from keras_dropblock.analysis.segmentation import (
    IGNORED,
    overlay,
    pixel_counts,
    segmentation_scores,
    stacked,
)
from keras_dropblock.data import images as image_reading
from keras_dropblock.errors import DataError, RecipeError
from keras_dropblock.tasks import backbones
from keras_dropblock.tasks.fcn import FCN, mask_loss
from keras_dropblock.tasks.masks import MaskPredictor
from keras_dropblock.tasks.metric import Metric
from keras_dropblock.tasks.predictor import names_of, outputs_of
from keras_dropblock.tasks.transfer import FineTuned
from keras_dropblock.tasks.vision import DeepLab

_SHOWN = 4  # images in the pictures of a run
HEADS = ("fcn", "deeplab")
_OF_FCN = ("head_keep_prob", "head_block_size", "head_filters", "head_level")
# Scale of the images in training. The paper does not give it.
_JITTER = (0.5, 2.0)


@dataclasses.dataclass(frozen=True)
class Segmentation(MaskPredictor, FineTuned):
    """Semantic segmentation: one class for each pixel.

    `head = "fcn"` trains `FCN`, the network of the DropBlock paper, and
    `head = "deeplab"` trains `DeepLab`, which needs the extra `vision`. The
    other keys `head_*` need `head = "fcn"`.
    """

    head: str = keys.choice(
        "fcn", "fcn: FPN and convs, as in the DropBlock paper; deeplab", HEADS
    )
    head_keep_prob: float = keys.key(
        1.0,
        "fcn: keep_prob of DropBlock on the head, at the end of its schedule",
        "in [0, 1], the fraction to keep",
        keys.is_share,
    )
    head_block_size: int = keys.key(
        7,
        "fcn: block_size of DropBlock on the head, in pixels of its level",
        ">= 1",
        keys.is_at_least_one,
    )
    head_filters: int = keys.key(
        256, "fcn: channels of the head", ">= 1", keys.is_at_least_one
    )
    head_level: int = keys.key(
        3,
        "fcn: the head's stride is 2^head_level pixels",
        "2, 3, 4 or 5",
        lambda level: 2 <= level <= 5,
    )
    frozen_norms: bool = backbones.FROZEN_NORMS
    ignored_labels: tuple[int, ...] = keys.key(
        (),
        'labels of masks that mean "not labeled", besides 255',
        "distinct labels in [0, 255]",
        lambda labels: (
            len({*labels}) == len(labels)
            and all(0 <= label <= 255 for label in labels)
        ),
    )

    metrics: typing.ClassVar = (
        Metric("miou", "mIoU", "%", 100, 2, higher_is_better=True),
        Metric(
            "pixel_accuracy",
            "pixel accuracy",
            "%",
            100,
            2,
            higher_is_better=True,
        ),
    )
    augmentations: typing.ClassVar = {
        "none": {},
        "flip": {"jitter": (1.0, 1.0), "flip": True},
        "scale_flip": {"jitter": _JITTER, "flip": True},
    }
    pictures: typing.ClassVar = {
        "confusion.png": "Confusion matrix of pixels",
        "predictions.png": "The first test images, their masks, and the "
        "predictions. Pixels without a label keep their color.",
    }
    head_layers: typing.ClassVar = ("logits", "segmentation_output")
    labels: typing.ClassVar = "masks"
    draws_epochs: typing.ClassVar = True

    def __post_init__(self):
        super().__post_init__()
        if self.head != "fcn":
            self._check_unused_keys()

    def _check_unused_keys(self):
        """Raise `RecipeError` if a key that only fcn uses is set."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _OF_FCN and value != field.default:
                raise RecipeError(
                    f'`{field.name}` needs `head` = "fcn". Received: '
                    f"{field.name}={value}, head={self.head}."
                )

    def usual_augmentation(self, dataset):
        return "scale_flip"

    def data_options(self):
        return {"labels": "masks", "ignored_labels": self.ignored_labels}

    def check_data(self, dataset):
        if len(self.class_names(dataset)) < 2:
            raise DataError(
                "A data set to segment must have the names of at least two "
                f"classes. Received: {self.class_names(dataset)}."
            )

    def network(self, notation, dataset, options):
        builder, arguments = super().network(notation, dataset, options)
        backbones.check_notation(notation, builder)
        if self.head == "fcn":
            head = {
                "kind": "fcn",
                "keep_prob": self.head_keep_prob,
                "block_size": self.head_block_size,
                "filters": self.head_filters,
                "level": self.head_level,
            }
        else:
            head = {"kind": self.head}
        return builder, {**arguments, "head": head}

    def build(self, builder, arguments):
        head = dict(arguments["head"])
        backbone = backbones.backbone_of(builder, arguments)
        classes = arguments["num_classes"]
        if head.pop("kind") == "deeplab":
            return DeepLab(backbone, classes, **head)
        return FCN(backbone, classes, **head)

    def initialize(self, model):
        super().initialize(model)
        if self.frozen_norms:
            backbones.freeze_norms(model)

    def targets(self, dataset):
        return np.asarray

    def loss(self):
        return mask_loss()

    def compile(self, model, optimizer, **options):
        metric = keras.metrics.MeanIoU(
            model.output.shape[-1],
            ignore_class=IGNORED,
            sparse_y_pred=False,
            name="miou",
        )
        model.compile(optimizer, self.loss(), metrics=[metric], **options)

    def evaluate(self, model, batches):
        counts = self._counts(model, batches)
        names = names_of(model, len(counts))
        return segmentation_scores(counts, names, batches.count)

    def _counts(self, model, batches):
        classes = model.output.shape[-1]
        counts = np.zeros((classes, classes), "int64")
        for i in range(len(batches)):
            images, masks = batches[i]
            predicted = outputs_of(model, images).argmax(-1)
            counts += pixel_counts(masks, predicted, classes)
        return counts

    def draw_epoch(self, model, batches, card, path):
        framed, masks = batches.read(0)
        # The whole batch, of which every replica gets a part.
        logits = outputs_of(model, batches.normalize(framed))
        classes = logits.shape[-1]
        rows = [
            [
                image,
                overlay(image, mask, classes),
                overlay(image, predicted, classes),
            ]
            for image, mask, predicted in zip(
                framed[:_SHOWN],
                masks[:_SHOWN],
                logits[:_SHOWN].argmax(-1),
                strict=True,
            )
        ]
        image_reading.write_png(path, stacked(rows))

    def draw(self, model, batches, card, folder):
        counts = self._counts(model, batches)
        names = names_of(model, len(counts))
        confusion.draw(counts, names, folder / "confusion.png")
        self.draw_epoch(model, batches, card, folder / "predictions.png")
