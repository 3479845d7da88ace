"""Class activation maps: image regions that a network uses for a class."""

import keras
import numpy as np

from keras_dropblock import files


def class_activation_maps(model, images, classes):
    """Contribution of each position of the last feature map to a logit.

    The logit is the mean of the map plus the bias of the class. This holds
    because the network averages over all positions and its last layer is
    linear.

    Args:
        model: a model of this package's builders.
        images: normalized, (images, height, width, channels).
        classes: one class for each image, ints from 0.

    Returns:
        float32 array (images, map height, map width), in logits.

    Reference:
        Zhou et al. 2016, "Learning deep features for discriminative
        localization", https://arxiv.org/abs/1512.04150, equation 2.
    """
    features = keras.Model(model.input, model.get_layer("pool").input)
    maps = keras.ops.convert_to_numpy(features(images, training=False))
    if keras.config.image_data_format() == "channels_first":
        maps = np.moveaxis(maps, 1, -1)
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    weights = kernel[:, np.asarray(classes, int)]  # (channels, images)
    return np.einsum("nhwc,cn->nhw", maps.astype("float32"), weights)


def draw(model, normalize, images, labels, class_names, path):
    """Draw each image with the activation map of its predicted class.

    Args:
        model: a model of this package's builders.
        normalize: function from uint8 images to the model's input.
        images: uint8 array (images, height, width, channels).
        labels: the true classes, ints from 0.
        class_names: names of all classes.
        path: file to write, `.png`.
    """
    from matplotlib.figure import Figure

    normalized = normalize(images)
    logits = keras.ops.convert_to_numpy(model(normalized, training=False))
    predicted = logits.argmax(1)
    maps = class_activation_maps(model, normalized, predicted)
    height, width = images.shape[1:3]
    figure = Figure(figsize=(1.5 * len(images), 3.6), layout="constrained")
    for column, (above, below) in enumerate(
        zip(*figure.subplots(2, len(images), squeeze=False), strict=True)
    ):
        picture = images[column].squeeze()
        above.imshow(picture, cmap="gray")
        above.set_title(class_names[labels[column]], fontsize=9)
        below.imshow(picture, cmap="gray")
        below.imshow(
            maps[column],
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bilinear",
            cmap="jet",
            alpha=0.5,
        )
        right = predicted[column] == labels[column]
        below.set_title(
            class_names[predicted[column]],
            fontsize=9,
            color="black" if right else "red",
        )
        for axes in (above, below):
            axes.set(xticks=[], yticks=[])
    files.write_figure(path, figure)
