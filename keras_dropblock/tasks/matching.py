"""Matching of anchors and objects, for KerasHub's RetinaNet.

KerasHub 0.32 does not train on objects that no anchor overlaps by half. In
small images, these are many of COCO's objects. Its option to include them
raises an error for batches. With mixed precision, it also rounds the corners of
boxes to 8 bits. This module corrects both.
"""

import keras
import keras_hub

# Overlap (IoU) below which an anchor is background, and from which it is an
# object. Between them, it is not trained.
_OVERLAPS = (0.4, 0.5)


@keras.saving.register_keras_serializable("keras_dropblock")
class EachObjectMatcher(keras_hub.layers.BoxMatcher):
    """Match anchors to objects, so that each object has an anchor.

    An anchor learns the object that it overlaps most, if the IoU is 0.5 or
    more. In addition, the anchor that overlaps an object most learns that
    object, however small the overlap is, as in tensorflow/tpu,
    models/official/detection. If two objects share this anchor, it learns the
    first one.
    """

    def __init__(self, **kwargs):
        kwargs = {"dtype": "float32", **kwargs}
        # -1: background, -2: not trained, 1: an object.
        super().__init__([*_OVERLAPS], [-1, -2, 1], **kwargs)

    def call(self, similarity_matrix):
        """Match: see `keras_hub.layers.BoxMatcher`.

        Args:
            similarity_matrix: IoU, (images, anchors, objects). Rows of
                padding have an IoU of 0 with every anchor.

        Returns:
            int tensors (images, anchors): index of the object, and 1 for an
            object, -1 for background or -2 for neither.
        """
        ops = keras.ops
        columns, values = super().call(similarity_matrix)
        best = ops.argmax(similarity_matrix, axis=1)
        exists = ops.max(similarity_matrix, axis=1) > 0
        anchors = ops.arange(ops.shape(similarity_matrix)[1], dtype=best.dtype)
        forced = ops.logical_and(
            ops.equal(anchors[None, :, None], best[:, None]), exists[:, None]
        )
        is_forced = ops.any(forced, axis=-1)
        first = ops.argmax(ops.cast(forced, "int32"), axis=-1)
        columns = ops.where(is_forced, ops.cast(first, "int32"), columns)
        return columns, ops.where(is_forced, 1, values)

    def get_config(self):
        return keras.layers.Layer.get_config(self)


def repaired(encoder):
    """A copy of KerasHub's label encoder that matches each object, in float32.

    A copy, because the encoder of a loaded model cannot be changed.
    """
    config = {**encoder.get_config(), "dtype": "float32"}
    copy = type(encoder).from_config(config)
    copy.box_matcher = EachObjectMatcher()
    return copy
