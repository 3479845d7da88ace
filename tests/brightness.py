"""A custom task: predict one number for each image, its brightness."""

import dataclasses
import typing

import keras
import numpy as np

from keras_dropblock import keys
from keras_dropblock.tasks import Metric, Task, serving_inputs


@dataclasses.dataclass(frozen=True)
class Brightness(Task):
    """Regression to labels that are floats."""

    delta: float = keys.key(1.0, "where Huber's loss turns linear")

    metrics: typing.ClassVar = (Metric("mae", "mean absolute error"),)

    def outputs(self, dataset):
        return 1

    def targets(self, dataset):
        return lambda labels: np.asarray(labels, "float32")[:, None]

    def loss(self):
        return keras.losses.Huber(delta=self.delta)

    def training_metrics(self):
        return [keras.metrics.MeanAbsoluteError(name="mae")]

    def scores(self, outputs, labels):
        error = np.abs(outputs[:, 0] - labels).mean()
        return {"mae": float(error), "images": len(labels)}

    answer_scores = scores

    def serving_model(self, model, preprocessing):
        images, x = serving_inputs(model, preprocessing)
        return keras.Model(images, model(x, training=False))

    def predict(self, model, card, images, **_):
        pixels = card.normalize(np.asarray(images))
        return model.predict(pixels, verbose=0)[:, 0].tolist()
