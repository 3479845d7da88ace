"""Confusion matrices: which classes a classifier confuses."""

import numpy as np

from keras_dropblock import files

_NUMBERED = 20  # with more classes, cells have no room for numbers


def confusion_matrix(labels, predicted, classes):
    """Count in row i, column j the images of class i predicted as class j.

    Args:
        labels, predicted: int arrays (images,), from 0.
        classes: number of classes.
    """
    flat = np.asarray(labels) * classes + np.asarray(predicted)
    counts = np.bincount(flat, minlength=classes**2)
    return counts.reshape(classes, classes)


def draw(matrix, class_names, path):
    """Draw a confusion matrix in percent of the images of each true class.

    Args:
        matrix: result of `confusion_matrix`.
        class_names: one name for each row.
        path: file to write, `.png`.
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
                j,
                i,
                f"{value:.0f}" if value > 0.5 else "",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 60 else "black",
            )
    figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
    files.write_figure(path, figure)
