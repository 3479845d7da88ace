"""What a task does with a trained model, and functions to call the model."""

import typing

import keras

from keras_dropblock import models


class Predictor:
    """What a task does with a trained model: predictions, exports, text.

    This is the base class of `Task`. It uses no keys of a recipe.

    Attributes:
        output_rank: number of axes of the network's output, including the
            batch.
        explained_layer: name of the layer whose maps show where the network
            looks, for a task with `objects`.
        any_size: whether answers are places in an image, such as boxes or
            masks. Exports then take images of any size and answer in the
            pixels of each image.
    """

    output_rank: typing.ClassVar[int] = 2
    any_size: typing.ClassVar[bool] = False
    explained_layer: typing.ClassVar[str | None] = None

    def answer_scores(self, answers, labels):
        """Compute the scores from the outputs of `serving_model`."""
        raise NotImplementedError

    def serving_model(self, model, preprocessing):
        """A Keras model from raw pixels, 0 to 255, to the task's prediction.

        Args:
            model: a model that takes normalized images.
            preprocessing: `data.Preprocessing`. None: the result takes
                normalized images too.
        """
        raise NotImplementedError

    def output_width(self, model):
        """Number of classes of a model, or None if its outputs do not fit."""
        shapes = [tensor.shape for tensor in model.outputs]
        if [len(shape) for shape in shapes] != [self.output_rank]:
            return None
        return shapes[0][-1]

    def graph_answers(self, model, heads, normalized, sizes, encoded):
        """Answers in a TensorFlow graph, for a task with `any_size`.

        Args:
            model: the network.
            heads: its outputs for a batch.
            normalized: the batch, (batch, height, width, channels).
            sizes: int32 tensor (batch, 2), sizes of the images themselves.
            encoded: whether sizes may differ, so that answers of the size of
                an image must be encoded.

        Returns:
            Dict of tensors with one row for each image.
        """
        raise NotImplementedError

    def answer_difference(self, given, expected, card):
        """Compare an exported answer. Returns a difference as text, or `""`.

        Args:
            given: dict of arrays with one row, from `graph_answers`.
            expected: result of `predict` for the image.
            card: `hub.Card` of the model.
        """
        raise NotImplementedError

    def predict(self, model, card, images, *, top=5, batch_size=128):
        """Predict for images: see `keras_dropblock.predict`."""
        raise NotImplementedError

    def objects(self, class_names, labels):
        """The objects of each class in images, for maps and masks.

        Args:
            class_names: names of the classes.
            labels: the labels of the images, as a data set has them.

        Returns:
            A list of `analysis.objects.Objects`. It is empty for tasks whose
            labels do not say where objects are.
        """
        return []

    def lines(self, prediction, card):
        """Columns of text that show what `predict` gives for one image.

        Args:
            prediction: result of `predict` for the image.
            card: `hub.Card` of the model.

        Returns:
            A list of lines, each a tuple of texts.
        """
        return [(label, f"{share:.4f}") for label, share in prediction]

    def picture(self, image, prediction, card):
        """Draw what `predict` gives for an image into the image.

        Args:
            image: uint8 array (height, width, channels).
            prediction: result of `predict` for this image.
            card: `hub.Card` of the model.

        Returns:
            uint8 array of the same size, or None if there is nothing to draw.
        """


def outputs_of(model, images):
    """The outputs of a model for one batch, as NumPy arrays.

    Not `predict_on_batch`, which with several replicas gives the whole batch
    to each of them.
    """
    return model.predict(images, batch_size=len(images), verbose=0)


def serving_inputs(model, preprocessing):
    """Create the input and the preprocessing of a serving model.

    Args:
        model, preprocessing: see `Predictor.serving_model`.

    Returns:
        (symbolic float32 images with channels last, symbolic input for
        `model`).
    """
    images = keras.Input(
        models.image_shape(model), dtype="float32", name="images"
    )
    x = images if preprocessing is None else preprocessing.layer()(images)
    if models.data_format(model) == "channels_first":
        x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return images, x


def names_of(model, classes):
    """The class names of a model's card, or numbers if it has none.

    Args:
        model: a model, with or without a card.
        classes: number of classes.
    """
    card = getattr(model, "card", None)
    names = card.class_names if card is not None else ()
    return names or tuple(str(i) for i in range(classes))
