"""Non-maximum suppression of each class, for KerasHub's RetinaNet.

The non-maximum suppression of KerasHub 0.32 ignores classes, and its boxes
extend beyond the image. `ClasswiseSuppression` treats each class separately, on
clipped boxes.
"""

import keras
import keras_hub

BOX_FORMAT = "yxyx"
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

    bounding_box_format = BOX_FORMAT  # read by RetinaNetObjectDetector

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
            BOX_FORMAT,
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
