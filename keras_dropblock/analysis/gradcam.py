"""Grad-CAM: image regions that any Keras model uses for a class."""

import contextlib

import keras
import numpy as np

from keras_dropblock import models
from keras_dropblock.analysis import gradients, interception

_TO_PROBABILITIES = keras.activations.softmax, keras.activations.sigmoid


def grad_cam(
    model,
    images,
    classes=None,
    *,
    layer=None,
    score=None,
    relu=True,
    by_position=False,
    batch_size=32,
):
    """Grad-CAM maps of any Keras 3 model, on TensorFlow, JAX or torch.

    The map is a weighted sum of the channels of a feature map. The weight of a
    channel is the gradient of the class's logit, averaged over the positions.
    Models may be nested, subclassed, or contain layers that are made of
    layers.

    If a network ends with global average pooling and a dense layer, the map
    without ReLU equals the class activation map, divided by the number of
    positions.

    If the model's last layer has a softmax or sigmoid, this activation is
    left out, so that the score is the logit.

    Args:
        model: `keras.Model` of images, with outputs (images, classes), or
            another model and `score=`.
        images: the inputs of the model: an array, or a structure of arrays,
            whose first axis is the images.
        classes: one class for each image, ints from 0. None: the classes that
            the model predicts.
        layer: the layer whose output is weighted: its name, or the layer
            itself if several have that name. None: the last layer whose
            output has 4 axes and more than one position. If a layer is called
            several times, its last call counts.
        score: function from the model's outputs to a tensor (images,), which
            replaces the logit of the class. For example, the sum of the
            logits of a class over the pixels of a segmentation.
        relu: whether negative values become 0, as in the paper.
        by_position: whether each position of a channel has the gradient there
            as its weight, as in HiResCAM, instead of the mean gradient of the
            channel. Use it if a score belongs to places of the image, such as
            boxes or pixels. For networks that end with global average pooling
            and a dense layer, the maps are the same.
        batch_size: images in one call of the model, int >= 1.

    Returns:
        float32 array (images, map height, map width).

    Raises:
        ValueError: if there is no such layer, the layer does not influence
            the score (on JAX, its maps are 0 instead), the outputs do not
            have 2 axes and `score` is None, or the number of classes differs
            from the number of images.

    Example:
        >>> model = keras.applications.ResNet50V2()
        >>> maps = grad_cam(model, images)

    Reference:
        Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep
        networks via gradient-based localization",
        https://arxiv.org/abs/1610.02391, equations 1 and 2. Draelos and Carin
        2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks", https://arxiv.org/abs/2011.08891.
    """
    count = len(keras.tree.flatten(images)[0])
    if classes is not None:
        _check_classes(classes, count, score)
        classes = np.asarray(classes, int)
    first = keras.tree.map_structure(lambda x: x[:1], images)
    calls = interception.order_of_calls(model, first)
    if layer is None:
        layer = interception.last_feature_map(model, calls)
    else:
        layer = interception.find_layer(model, layer)
    maps = []
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        total = _total(score, None if classes is None else classes[part])
        x = keras.tree.map_structure(lambda x, part=part: x[part], images)
        with _as_logits(calls):
            found = gradients.output_and_gradient(model, x, layer, total)
        maps.append(_weighted(*found, model, relu, by_position))
    return np.concatenate(maps)


def _check_classes(classes, count, score):
    if score is not None:
        raise ValueError(
            "`classes` must be None if `score` is given: the score says what "
            "the maps explain."
        )
    if np.shape(classes) != (count,):
        raise ValueError(
            "`classes` must have one int for each image. Received: "
            f"{count} images and classes of shape {np.shape(classes)}."
        )


def _total(score, classes):
    """A function from outputs to the sum over all images of their scores.

    Images do not influence each other at inference, so the gradient of the
    sum has the gradient of each image.
    """

    def total(outputs):
        if score is not None:
            return keras.ops.sum(score(outputs))
        shape = getattr(outputs, "shape", ())
        if len(shape) != 2:
            raise ValueError(
                "`model` must have outputs of shape (images, classes), unless "
                f"`score` is given. Received: outputs of shape {tuple(shape)}."
            )
        chosen = classes
        if chosen is None:
            chosen = keras.ops.argmax(outputs, axis=1)
        rows = keras.ops.one_hot(chosen, shape[1], dtype=outputs.dtype)
        return keras.ops.sum(outputs * rows)

    return total


def _weighted(features, gradient, model, relu, by_position):
    """The sum of the channels, weighted by their gradients."""
    if models.data_format(model) == "channels_first":
        features, gradient = (
            np.moveaxis(x, 1, -1) for x in (features, gradient)
        )
    if not by_position:
        gradient = gradient.mean((1, 2), keepdims=True)
    maps = (features * gradient).sum(-1)
    return np.maximum(maps, 0) if relu else maps


@contextlib.contextmanager
def _as_logits(calls):
    """A context in which a softmax or sigmoid of the last layer is left out.

    Args:
        calls: result of `interception.order_of_calls`.
    """
    # The last one that does not contain other layers.
    last = [layer for layer, _ in calls if not layer._layers][-1]
    with contextlib.ExitStack() as stack:
        if isinstance(last, keras.layers.Softmax):
            change = "call", lambda inputs, *args, **kwargs: inputs
            stack.enter_context(interception.replaced(last, *change))
        elif getattr(last, "activation", None) in _TO_PROBABILITIES:
            change = "activation", keras.activations.linear
            stack.enter_context(interception.replaced(last, *change))
        yield
