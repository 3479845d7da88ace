"""The metrics of a published model's card."""

import hashlib
import math
import statistics

import numpy as np

from keras_dropblock import files

_AT_ONCE = 64  # test images in memory at the same time


def summary(finished, metrics):
    """The metrics of a card: scores, runs and training."""
    first = finished[0]
    sessions = [s for run in finished for s in run.sessions]
    shared = ("commit", "backend", "versions")
    return {
        "n": len(finished),
        "seeds": [run.recipe["seed"] for run in finished],
        "scores": {
            metric.name: _mean_and_std(
                [run.scores[metric.name] for run in finished]
            )
            for metric in metrics
        },
        "runs": [
            {
                "seed": run.recipe["seed"],
                **files.for_json(run.scores),
                "hours": _mean([run.hours], 4),
                "images_per_second": _mean([run.images_per_second], 1),
            }
            for run in finished
        ],
        "training": {
            "images": first.training_images,
            "hours": _mean([run.hours for run in finished], 4),
            "images_per_second": _mean(
                [run.images_per_second for run in finished], 1
            ),
            "devices": sorted({d for s in sessions for d in s["devices"]}),
            **{key: sessions[0][key] for key in ("machine", "cpus", *shared)},
            "started": min(session["started"] for session in sessions),
            "finished": max(run.finished_at for run in finished),
        },
    }


def _mean_and_std(values):
    """Mean and sample standard deviation, which is None for one value.

    Both are None if a value is not finite.
    """
    if not all(map(math.isfinite, values)):
        return {"mean": None, "std": None}
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std}


def _mean(values, digits):
    """Rounded mean of the values that are not None. None if all are None."""
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), digits) if known else None


def test_digest(dataset):
    """SHA-256 of the test images and labels.

    None for images that are read from disk in every epoch.
    """
    if not hasattr(dataset, "arrays"):
        return None
    images, labels = dataset.arrays["test"]
    digest = hashlib.sha256()
    for rows in _parts(images):
        digest.update(np.ascontiguousarray(rows))
    for rows in _label_parts(labels):
        kind = "<i8" if rows.dtype.kind in "iub" else "<f8"
        digest.update(np.ascontiguousarray(rows, kind))
    return digest.hexdigest()


def _parts(rows):
    """Consecutive parts of an array, or of `Rows` which this reads."""
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _label_parts(labels):
    """Labels as arrays: of classes, of masks, or of each image's objects."""
    if not hasattr(labels, "objects"):
        yield from _parts(labels)
        return
    for found in labels.objects:
        yield np.array(found.size)
        yield from (found.boxes, found.classes, found.crowd, found.area)
