"""Predictions of segmentation: masks of the size of an image itself."""

import functools
import typing

import keras
import numpy as np

from keras_dropblock.analysis.objects import Objects, predicted_pixels
from keras_dropblock.analysis.segmentation import overlay
from keras_dropblock.data import framing
from keras_dropblock.data import images as image_reading
from keras_dropblock.tasks.predictor import (
    Predictor,
    outputs_of,
    serving_inputs,
)


class MaskPredictor(Predictor):
    """Predictions with a trained `FCN` or `DeepLab`: see `Segmentation`."""

    output_rank: typing.ClassVar = 4
    any_size: typing.ClassVar = True
    explained_layer: typing.ClassVar = "group4"

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Find the class of each pixel.

        Returns:
            For each image, a uint8 array (height, width) of the image's own
            size with the index of the class of each pixel. `top` and
            `batch_size` have no effect, because images of different sizes are
            predicted one by one.
        """
        preprocessing = card.preprocessing_for(model)
        return [
            self._mask(model, preprocessing, image)
            for image in image_reading.arrays(
                images, preprocessing.image_shape[-1]
            )
        ]

    def _mask(self, model, preprocessing, image):
        tf = image_reading.tensorflow()
        framed = preprocessing.fit(tf.constant(image)).numpy()
        logits = outputs_of(model, preprocessing.normalize(framed[None]))
        height, width = framing.content_size(
            image.shape[:2], preprocessing.image_size
        )
        logits = keras.ops.image.resize(
            logits[:, :height, :width], image.shape[:2]
        )
        mask = keras.ops.convert_to_numpy(logits)[0].argmax(-1)
        return mask.astype("uint8")

    def serving_model(self, model, preprocessing):
        """Model from pixels of the network's size to logits."""
        images, x = serving_inputs(model, preprocessing)
        return keras.Model(
            images, model(x, training=False), name=f"{model.name}_served"
        )

    def graph_answers(self, model, heads, normalized, sizes, encoded):
        import tensorflow as tf

        frame = tuple(normalized.shape[1:3])

        def mask_of(inputs):
            logits, size = inputs
            content = framing.graph_content_size(size, frame)
            logits = tf.image.resize(logits[: content[0], : content[1]], size)
            mask = tf.cast(tf.argmax(logits, -1), tf.uint8)
            return tf.io.encode_png(mask[..., None]) if encoded else mask

        kind = (
            tf.TensorSpec((), tf.string)
            if encoded
            else tf.TensorSpec((None, None), tf.uint8)
        )
        logits = tf.cast(heads, tf.float32)
        # One by one: logits of an image's own size may take gigabytes.
        masks = tf.map_fn(
            mask_of,
            (logits, sizes),
            fn_output_signature=kind,
            parallel_iterations=1,
        )
        # TensorFlow Serving sends outputs with this ending in base64.
        return {"mask_bytes" if encoded else "mask": masks}

    def answer_difference(self, given, expected, card):
        if "mask" in given:
            mask = given["mask"][0]
        else:
            tf = image_reading.tensorflow()
            mask = tf.io.decode_png(given["mask_bytes"][0]).numpy()[..., 0]
        if mask.shape != expected.shape:
            return f"a mask of {mask.shape} instead of {expected.shape}"
        # Rounding may decide between two classes.
        wrong = (mask != expected).mean()
        return f"{wrong:.1%} of the pixels" if wrong > 1e-3 else ""

    def objects(self, class_names, labels):
        masks = labels[:]
        return [
            Objects(
                name,
                predicted_pixels(i),
                functools.partial(np.equal, masks, i),
            )
            for i, name in enumerate(class_names)
        ]

    def lines(self, prediction, card):
        labels, counts = np.unique(prediction, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        names = card.class_names or [*map(str, range(256))]
        return [
            (names[labels[i]], f"{counts[i] / prediction.size:.4f}")
            for i in order
        ]

    def picture(self, image, prediction, card):
        return overlay(image, prediction, max(len(card.class_names), 1))
