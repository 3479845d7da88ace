"""KerasHub's RetinaNet, with corrected initialization, losses and suppression.

The RetinaNet of KerasHub 0.32 does not learn from random weights. This module
corrects three parts, and `matching` a fourth one:

- KerasHub sets the bias for a prior of 1 % in the box head, and a bias of 0 in
  the class head. Its kernels have a standard deviation of 0.05. Here both are
  initialized as in the paper.
- KerasHub's losses are means over the classes and over the four coordinates.
  Here the loss weights compensate for that.
- KerasHub's non-maximum suppression ignores classes, and its boxes extend
  beyond the image. `ClasswiseSuppression` treats each class separately, on
  clipped boxes.
"""

import math

import keras
import keras_hub

from keras_dropblock.models import image_shape
from keras_dropblock.tasks.fcn import check_size
from keras_dropblock.tasks.hub_models import (
    LoadedAsSaved,
    PyramidBackbone,
    with_plain_methods,
)
from keras_dropblock.tasks.losses import (
    BOX_WEIGHT,
    SummedFocalLoss,
    SummedHuber,
)
from keras_dropblock.tasks.matching import repaired

_FORMAT = "yxyx"
_CANDIDATES = 1000  # pairs of box and class that suppression looks at


@keras.saving.register_keras_serializable("keras_dropblock")
class ClasswiseSuppression(keras.layers.Layer):
    """Non-maximum suppression class by class, on boxes clipped to the image.

    The 1,000 pairs of a box and a class with the highest scores are used.
    KerasHub's suppression ignores classes. The boxes of each class are
    therefore shifted to a place of their own, where they overlap only with
    boxes of the same class.

    Args:
        score_threshold: least score of a detection, in [0, 1].
        iou_threshold: IoU above which the less certain of two boxes of a
            class is suppressed.
        max_detections: largest number of detections in an image.

    Output:
        A dict of `boxes` (batch, max_detections, 4), `confidence`, `labels`
        (batch, max_detections), padded with -1, and `num_detections`
        (batch,).
    """

    bounding_box_format = _FORMAT  # read by RetinaNetObjectDetector

    def __init__(
        self,
        score_threshold=0.05,
        iou_threshold=0.5,
        max_detections=100,
        **kwargs,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections
        self.suppression = keras_hub.layers.NonMaxSuppression(
            _FORMAT,
            from_logits=False,
            iou_threshold=iou_threshold,
            confidence_threshold=score_threshold,
            max_detections=max_detections,
            # With mixed precision, shifted boxes would be rounded to 8 bits.
            dtype="float32",
        )
        self.built = True

    def call(self, box_prediction, class_prediction, images=None):
        ops = keras.ops
        height, width = images.shape[1:3]
        limit = ops.convert_to_tensor([height, width, height, width], "float32")
        boxes = ops.cast(box_prediction, "float32")
        boxes = ops.minimum(ops.maximum(boxes, 0.0), limit)
        scores = ops.sigmoid(ops.cast(class_prediction, "float32"))
        anchors, classes = scores.shape[1:]
        pairs = ops.reshape(scores, (-1, anchors * classes))
        best, places = ops.top_k(pairs, min(_CANDIDATES, anchors * classes))
        labels = places % classes
        boxes = ops.take_along_axis(boxes, (places // classes)[..., None], 1)
        # KerasHub takes the class with the highest score of each box.
        of_class = ops.one_hot(labels, classes) * best[..., None]
        side = max(height, width) + 1.0
        shifted = boxes + side * ops.cast(labels, "float32")[..., None]
        # It needs a known number of images, so each image is done alone.
        found = ops.map(self._of_image, (shifted, of_class))
        shift = side * ops.cast(found["labels"], "float32")[..., None]
        valid = found["confidence"] > 0
        return {
            "boxes": ops.where(valid[..., None], found["boxes"] - shift, -1.0),
            "confidence": ops.where(valid, found["confidence"], -1.0),
            "labels": ops.where(valid, found["labels"], -1),
            "num_detections": ops.sum(ops.cast(valid, "int32"), axis=1),
        }

    def _of_image(self, inputs):
        """Suppress the candidates of one image."""
        boxes, scores = inputs
        found = self.suppression(boxes[None], scores[None])
        return {
            "boxes": found["boxes"][0],
            "confidence": keras.ops.cast(found["confidence"][0], "float32"),
            "labels": keras.ops.cast(found["labels"][0], "int32"),
        }

    def get_config(self):
        config = super().get_config()
        del config["dtype"]
        return {
            **config,
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }


@keras.saving.register_keras_serializable("keras_dropblock")
@with_plain_methods
class Detector(LoadedAsSaved, keras_hub.models.RetinaNetObjectDetector):
    """KerasHub's detector with corrected losses, which keeps its card.

    `compile(optimizer)` sets the losses and weights of tensorflow/tpu: focal
    loss with alpha 0.25 and gamma 1.5, and 50 times the Huber loss with delta
    0.1, both divided by the number of anchors that have an object. With
    several replicas, each replica divides by its own number. The loss and its
    gradient are the means over the replicas.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        encoder = repaired(self.label_encoder)
        del self.label_encoder  # or Keras tracks both
        self.label_encoder = encoder

    def compile(
        self,
        optimizer="auto",
        box_loss="auto",
        classification_loss="auto",
        metrics=None,
        **kwargs,
    ):
        weights = {"bbox_regression": 1.0, "cls_logits": 1.0}
        if box_loss == "auto":
            # The Huber loss is the mean over coordinates in both codes.
            weights["bbox_regression"] = BOX_WEIGHT
            box_loss = SummedHuber(delta=0.1)
        if classification_loss == "auto":
            # Keras's focal loss is the mean over classes. It must be the sum.
            # KerasHub's constructor calls this before it sets `num_classes`.
            classes = self.output["cls_logits"].shape[-1]
            weights["cls_logits"] = float(classes)
            classification_loss = SummedFocalLoss(
                apply_class_balancing=True,
                alpha=0.25,
                gamma=1.5,
                from_logits=True,
            )
        kwargs.setdefault("loss_weights", weights)
        super().compile(
            optimizer, box_loss, classification_loss, metrics, **kwargs
        )

    def decode_predictions(self, predictions, data):
        # With mixed precision, anchors are float32 and outputs are not.
        predictions = {
            name: keras.ops.cast(values, "float32")
            for name, values in predictions.items()
        }
        return super().decode_predictions(predictions, data)


def RetinaNet(
    backbone,
    num_classes,
    *,
    min_level=3,
    max_level=7,
    head_convs=4,
    prior=0.01,
    score_threshold=0.05,
    iou_threshold=0.5,
    max_detections=100,
    name="retinanet",
):
    """Object detection with KerasHub's RetinaNet on a backbone of this package.

    DropBlock of the backbone, in groups 3 and 4 by default, is the DropBlock
    paper's experiment on COCO. `fit` takes normalized images and a dict of
    `boxes` (batch, n, 4) as y and x of the corners in pixels, and `labels`
    (batch, n), -1 for rows without a box. `compile(optimizer)` sets the
    losses. `predict` gives `boxes`, `confidence`, `labels` and
    `num_detections`: see `ClasswiseSuppression`.

    Args:
        backbone: a model of `ResNet` with channels last, whose height and
            width are multiples of 32 pixels. Its layers are shared.
        num_classes: number of classes, int >= 1, without a background.
        min_level, max_level: levels of the pyramid, whose strides are
            `2 ** level` pixels, and whose smallest anchors are four times as
            large: 32 to 512 pixels for levels 3 to 7.
        head_convs: number of 3x3 convs before the last one of each head,
            int >= 0; 4 in the paper.
        prior: probability of a class at the start of training, in (0, 1).
        others: see `ClasswiseSuppression`.
        name: name of the model.

    Returns:
        A `keras_hub.models.RetinaNetObjectDetector`.

    Raises:
        ValueError: for a backbone without these levels or of another size.

    Reference:
        Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4; Ghiasi
        et al. 2018, section 4.2; tensorflow/tpu, models/official/detection.
    """
    check_size(backbone)
    if not 1 <= num_classes <= 10_000 or not 0 < prior < 1:
        raise ValueError(
            "`num_classes` must be from 1 to 10,000, and `prior` in (0, 1). "
            f"Received: num_classes={num_classes}, prior={prior}."
        )
    body = keras_hub.models.RetinaNetBackbone(
        PyramidBackbone.of(backbone),
        min_level=min_level,
        max_level=max_level,
        use_p5=False,
        image_shape=image_shape(backbone),
        name="pyramid",
    )
    model = Detector(
        body,
        num_classes,
        bounding_box_format=_FORMAT,
        pre_logits_num_conv_layers=head_convs,
        prediction_decoder=ClasswiseSuppression(
            score_threshold, iou_threshold, max_detections
        ),
        compile=False,  # an optimizer would be loaded with the weights
        name=name,
    )
    for head in (model.box_head, model.classification_head):
        for conv in (*head.conv_layers, head.prediction_layer):
            normal = keras.initializers.RandomNormal(stddev=0.01)
            conv.kernel.assign(normal(conv.kernel.shape))
            conv.bias.assign(keras.ops.zeros(conv.bias.shape))
    bias = model.classification_head.prediction_layer.bias
    bias.assign(keras.ops.full(bias.shape, -math.log((1 - prior) / prior)))
    return model
