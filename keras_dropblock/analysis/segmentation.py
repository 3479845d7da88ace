"""Scores of semantic segmentation, and masks as colors."""

import numpy as np

IGNORED = 255  # label of pixels that do not count


def pixel_counts(labels, predicted, classes):
    """Count the pixels of each true and predicted class.

    Args:
        labels: int array of any shape, classes from 0; `IGNORED` for pixels
            that do not count.
        predicted: int array of the same shape, classes from 0.
        classes: number of classes.

    Returns:
        int array (classes, classes): row i, column j has the number of pixels
        of class i that were predicted as class j. Counts of several images
        can be added.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    counted = labels != IGNORED
    flat = labels[counted].astype("int64") * classes
    flat += predicted[counted].astype("int64")
    counts = np.bincount(flat, minlength=classes**2)
    return counts.reshape(classes, classes)


def segmentation_scores(counts, class_names, images):
    """Compute scores from pixel counts.

    Args:
        counts: result of `pixel_counts` for a whole split.
        class_names: one name for each class.
        images: number of images.

    Returns:
        Dict of `miou`, the mean of the IoU of all classes that occur as label
        or prediction; `pixel_accuracy`, the fraction of correct pixels;
        `images`; and `class_iou`, a dict from class name to IoU, None for a
        class that does not occur. Without any labeled pixel, scores are NaN.
    """
    right = np.diag(counts).astype(float)
    union = counts.sum(0) + counts.sum(1) - right
    occurs = union > 0
    iou = np.full(len(counts), np.nan)
    iou[occurs] = right[occurs] / union[occurs]
    total = counts.sum()
    return {
        "miou": float(iou[occurs].mean()) if occurs.any() else float("nan"),
        "pixel_accuracy": float(right.sum() / total) if total else float("nan"),
        "images": images,
        "class_iou": {
            name: float(value) if known else None
            for name, value, known in zip(class_names, iou, occurs, strict=True)
        },
    }


def palette(classes):
    """Distinct colors for classes: uint8 array (classes, 3).

    The hue advances by the golden section of the color circle, and every
    other color is darker. A class has the same color for any number of
    classes.
    """
    import colorsys

    colors = [
        colorsys.hsv_to_rgb(0.618034 * i % 1, 0.85, 0.95 if i % 2 else 0.7)
        for i in range(classes)
    ]
    return (255 * np.array(colors).reshape(-1, 3)).round().astype("uint8")


def overlay(image, mask, classes, strength=0.55):
    """Color an image by the classes of its pixels.

    Args:
        image: uint8 array (height, width, channels), 1, 3 or 4 channels.
        mask: int array (height, width), classes from 0; `IGNORED` pixels keep
            their color.
        classes: number of classes.
        strength: weight of the class color, in [0, 1].

    Returns:
        uint8 array (height, width, 3).
    """
    image = image[..., :3]
    image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
    counted = (mask != IGNORED)[..., None]
    color = palette(classes)[np.where(mask == IGNORED, 0, mask)]
    mixed = (1 - strength) * image + strength * color
    return np.where(counted, mixed.round(), image).astype("uint8")


def stacked(rows, gap=4):
    """Arrange images of equal size in a grid, with white lines between them.

    Args:
        rows: list of lists of uint8 arrays (height, width, 3).
        gap: width of the lines, in pixels.
    """
    lines = [
        np.concatenate(
            [
                np.pad(x, ((0, gap), (0, gap), (0, 0)), constant_values=255)
                for x in row
            ],
            axis=1,
        )
        for row in rows
    ]
    return np.concatenate(lines)[:-gap, :-gap]
