"""KerasHub's RetinaNet, with corrected initialization, losses and suppression.

The RetinaNet of KerasHub 0.32 does not learn from random weights. This module
corrects two parts, and the modules `suppression` and `matching` one part each:

- KerasHub sets the bias for a prior of 1 % in the box head, and a bias of 0 in
  the class head. Its kernels have a standard deviation of 0.05. Here both are
  initialized as in the paper.
- KerasHub's losses are means over the classes and over the four coordinates.
  Here the loss weights compensate for that.
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
from keras_dropblock.tasks.suppression import BOX_FORMAT, ClasswiseSuppression


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
        bounding_box_format=BOX_FORMAT,
        pre_logits_num_conv_layers=head_convs,
        prediction_decoder=ClasswiseSuppression(
            score_threshold, iou_threshold, max_detections
        ),
        compile=False,  # an optimizer would be loaded with the weights
        name=name,
    )
    _initialize_heads(model, prior)
    return model


def _initialize_heads(model, prior):
    """Give both heads the random weights and biases of the paper."""
    for head in (model.box_head, model.classification_head):
        for conv in (*head.conv_layers, head.prediction_layer):
            normal = keras.initializers.RandomNormal(stddev=0.01)
            conv.kernel.assign(normal(conv.kernel.shape))
            conv.bias.assign(keras.ops.zeros(conv.bias.shape))
    bias = model.classification_head.prediction_layer.bias
    bias.assign(keras.ops.full(bias.shape, -math.log((1 - prior) / prior)))
