"""Scores of object detection: COCO's average precision, and confusions."""

import contextlib
import io

import numpy as np

from keras_dropblock.errors import DataError

# Names of the first six numbers of pycocotools.
SUMMARY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_CLEAR = 0.3  # least score of a detection in the confusion matrix
_OVERLAP = 0.5  # least IoU of a detection with its object


def average_precision(truth, detections, class_names):
    """Compute COCO's average precision with pycocotools.

    Args:
        truth: list with the `data.annotated.Objects` of each image.
        detections: list with a dict for each image: `boxes` (n, 4) as y and x
            of the corners in the image's own pixels, `scores` (n,) and
            `classes` (n,).
        class_names: one name for each class.

    Returns:
        Dict of `ap`, the mean over classes and the IoU thresholds 0.5, 0.55,
        ..., 0.95; `ap50` and `ap75` at one threshold; `ap_small`,
        `ap_medium` and `ap_large` by the area of objects, below 32^2, below
        96^2 and above, in pixels; `images`; and `class_ap`, a dict from class
        name to AP. If no such object occurs, the number is NaN, or None in
        `class_ap`.

    Raises:
        DataError: if pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise DataError(
            "Average precision needs pycocotools, of the extra `vision`. Run: "
            f"pip install 'keras-dropblock[vision]'. ({error})"
        ) from error
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = coco_content(truth, class_names)
        coco.createIndex()
        found = coco.loadRes(_results(detections))
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # pycocotools gives -1 if there is nothing to measure.
    values = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = {}
    for i, name in enumerate(class_names):
        known = precision[:, :, i][precision[:, :, i] > -1]
        by_class[name] = float(known.mean()) if known.size else None
    return {
        **dict(zip(SUMMARY, map(float, values[:6]), strict=True)),
        "images": len(truth),
        "class_ap": by_class,
    }


def coco_content(truth, class_names):
    """The content of COCO's file `instances_*.json` for these objects."""
    annotations = []
    for i, objects in enumerate(truth):
        for box, kind, crowd, area in zip(
            objects.boxes,
            objects.classes,
            objects.crowd,
            objects.area,
            strict=True,
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": int(kind),
                    "bbox": _xywh(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [
            {"id": i, "height": o.size[0], "width": o.size[1]}
            for i, o in enumerate(truth)
        ],
        "annotations": annotations,
        "categories": [
            {"id": i, "name": name} for i, name in enumerate(class_names)
        ],
    }


def _results(detections):
    """Rows of image, x, y, width, height, score and class, for pycocotools."""
    rows = [
        [i, *_xywh(box), score, kind]
        for i, found in enumerate(detections)
        for box, score, kind in zip(
            found["boxes"], found["scores"], found["classes"], strict=True
        )
    ]
    # pycocotools fails without any detection. This one is outside the image.
    return np.array(rows or [[0, -9, -9, 1, 1, 0, 0]], float)


def _xywh(box):
    top, left, bottom, right = map(float, box)
    return [left, top, right - left, bottom - top]


def overlaps(boxes, others):
    """IoU of each box (n, 4) with each other box (m, 4): (n, m)."""
    boxes, others = np.asarray(boxes, float), np.asarray(others, float)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.maximum(high - low, 0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others)]
    either = areas[0][:, None] + areas[1][None, :] - both
    return both / np.maximum(either, 1e-9)


def confusions(truth, detections, classes):
    """Count how often objects of each class are detected as each class.

    Only detections with a score of 0.3 or more count. The best detection
    comes first. Each is assigned to the object that it overlaps most, with an
    IoU of 0.5 or more. The class of that object does not matter.

    Args:
        truth, detections: see `average_precision`. Crowds do not count.
        classes: number of classes.

    Returns:
        int array (classes + 1, classes + 1): row i, column j has the number
        of objects of class i that were detected as class j. The last column
        counts objects that were not detected, and the last row detections
        without an object.
    """
    counts = np.zeros((classes + 1, classes + 1), int)
    for objects, found in zip(truth, detections, strict=True):
        clear = np.flatnonzero(np.asarray(found["scores"]) >= _CLEAR)
        order = clear[np.argsort(-np.asarray(found["scores"])[clear])]
        boxes = objects.boxes[~objects.crowd]
        kinds = objects.classes[~objects.crowd]
        free = np.ones(len(boxes), bool)
        for i in order:
            overlap = overlaps(found["boxes"][i : i + 1], boxes)[0] * free
            best = int(overlap.argmax()) if len(overlap) else -1
            if best >= 0 and overlap[best] >= _OVERLAP:
                free[best] = False
                counts[kinds[best], found["classes"][i]] += 1
            else:
                counts[classes, found["classes"][i]] += 1
        for kind in kinds[free]:
            counts[kind, classes] += 1
    return counts


def draw_boxes(image, boxes, names, colors):
    """Draw boxes with names into an image.

    Args:
        image: uint8 array (height, width, 1, 3 or 4).
        boxes: array (n, 4), y and x of the corners in pixels.
        names: a text for each box.
        colors: a color (3,) for each box, 0 to 255.

    Returns:
        uint8 array (height, width, 3).
    """
    from PIL import Image, ImageDraw

    image = image[..., :3]
    image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    side = max(image.shape)
    # Draw the most certain box last, on top of the others.
    ordered = [*zip(boxes, names, colors, strict=True)][::-1]
    for box, _, color in ordered:
        top, left, bottom, right = map(float, box)
        pen.rectangle(
            [left, top, max(right - 1, left), max(bottom - 1, top)],
            outline=tuple(map(int, color)),
            width=max(1, round(side / 300)),
        )
    for box, name, color in ordered:
        if name:
            _write_name(pen, picture.size, box, name, tuple(map(int, color)))
    return np.asarray(picture)


def _write_name(pen, size, box, name, color):
    """Write a name above its box, within the image.

    The letters become smaller, down to 8 pixels, to fit the width of the box.
    """
    from PIL import ImageFont

    top, left, _, right = map(float, box)
    letters = max(10.0, max(size) / 30)
    width = pen.textlength(name, ImageFont.load_default(letters))
    letters = max(8.0, letters * min(1.0, (right - left) / width))
    font = ImageFont.load_default(letters)
    _, high, wide, low = pen.textbbox((0, 0), name, font)
    place = (
        max(0.0, min(left, size[0] - wide - 1)),
        max(0.0, top - (low - high) - 1) - high,
    )
    pen.rectangle(pen.textbbox(place, name, font), fill=color)
    pen.text(place, name, font=font, fill="white")
