"""Which classes a classifier takes for which."""

import numpy as np

from keras_dropblock.analysis import plots

_NUMBERED = 20  # classes, above which cells have no room for numbers


def confusion_matrix(labels, predicted, classes):
    """Counts: row i, column j has the images of class i taken for j.

    Args:
        labels, predicted: int arrays (images,), from 0.
        classes: number of classes.
    """
    flat = np.asarray(labels) * classes + np.asarray(predicted)
    counts = np.bincount(flat, minlength=classes**2)
    return counts.reshape(classes, classes)


def draw(matrix, class_names, path):
    """Draw a confusion matrix, each row in percent of its class.

    Args:
        matrix: of `confusion_matrix`.
        class_names: one for each row.
        path: picture to write, `.png`.
    """
    from matplotlib.figure import Figure

    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    classes = len(class_names)
    few = classes <= _NUMBERED
    side = 1.6 + 0.5 * classes if few else 8
    figure = Figure(figsize=(side + 0.4, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="predicted", ylabel="true class")
    if few:
        axes.set_xticks(range(classes), class_names, rotation=90)
        axes.set_yticks(range(classes), class_names)
        for (i, j), value in np.ndenumerate(share):
            axes.text(
                *(j, i, f"{value:.0f}" if value > 0.5 else ""),
                **{"ha": "center", "va": "center", "fontsize": 8},
                color="white" if value > 60 else "black",
            )
    figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
    plots.save(figure, path)
