"""Studies of one or several trained classifiers, written to a folder.

Each study writes a table, `NAME.csv`, a plot, `NAME.png`, and a description,
`NAME.json`, for each of its names.
"""

import pathlib

from keras_dropblock.analysis import charts
from keras_dropblock.analysis.blocks import score_without_blocks
from keras_dropblock.analysis.gradcam import grad_cam
from keras_dropblock.analysis.objects import SceneSubject, study_objects
from keras_dropblock.analysis.occlusion import score_under_occlusion
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.redundancy import measure_redundancy
from keras_dropblock.analysis.robustness import (
    score_under_corruption,
    score_under_dropblock,
)
from keras_dropblock.analysis.spread import measure_spread, summarize
from keras_dropblock.analysis.subjects import over_runs, write
from keras_dropblock.analysis.uncertain_study import study_uncertainty

_PICTURES = 6  # images in the plot of maps
_FOR_REDUNDANCY = 200  # images


def study_maps(subjects, folder, settings):
    """Where the networks look: Grad-CAM of the predicted classes.

    For detectors and segmentation networks, see `objects.study_objects`.
    """
    if isinstance(subjects[0], SceneSubject):
        return study_objects(subjects, folder, settings)
    rows, drawn = [], []
    for subject in subjects:
        x = subject.inputs(subject.images)
        found = grad_cam(subject.model, x, batch_size=128)
        rows += subject.rows([summarize(measure_spread(found))])
        predicted = outputs(subject.model, x[:_PICTURES]).argmax(1)
        names = [subject.class_names[i] for i in predicted]
        drawn.append((subject.name, found[:_PICTURES], names))
    first = subjects[0]
    charts.draw_maps(
        first.images[:_PICTURES],
        [first.class_names[i] for i in first.labels[:_PICTURES]],
        drawn,
        pathlib.Path(folder, "maps.png"),
    )
    title = "Where the networks look"
    write(folder, "maps", title, rows, subjects, settings)
    title = "How far the maps spread, over runs"
    write(folder, "spread", title, over_runs(rows), subjects, settings)


def study_redundancy(subjects, folder, settings):
    """How well the neighbors of dropped units predict them."""
    rows, lines = [], []
    for subject in subjects:
        x = subject.inputs(subject.images[:_FOR_REDUNDANCY])
        size = max(settings.block_sizes)
        found = measure_redundancy(subject.model, x, block_size=size)
        rows += subject.rows(found)
        for row in found:
            lines += subject.rows([row], row["method"])
    panel = charts.Panel(
        "Dropped units predicted by their neighbors",
        "layer",
        "R squared",
        charts.series(lines, "layer", "r2"),
    )
    charts.draw([panel], pathlib.Path(folder, "redundancy.png"))
    title = "Redundancy of dropped units"
    write(folder, "redundancy", title, rows, subjects, settings)


def study_blocks(subjects, folder, settings):
    """Scores after removing each residual block."""
    rows = []
    for subject in subjects:
        x = subject.inputs(subject.images)
        found = score_without_blocks(subject.model, x, subject.labels)
        rows += subject.rows(found)
    lines = [{**row, "removed": row["removed"] or "none"} for row in rows]
    panel = charts.Panel(
        "One residual block removed",
        "removed block",
        "accuracy",
        charts.series(lines, "removed", "accuracy"),
    )
    charts.draw([panel], pathlib.Path(folder, "blocks.png"))
    title = "Scores without single residual blocks"
    write(folder, "blocks", title, rows, subjects, settings)


def study_robustness(subjects, folder, settings):
    """Scores with DropBlock left on, on corrupted and on occluded images."""
    for study in (_under_dropblock, _under_corruption, _under_occlusion):
        study(subjects, folder, settings)


def _under_dropblock(subjects, folder, settings):
    rows = []
    for subject in subjects:
        found = score_under_dropblock(
            subject.model,
            subject.inputs(subject.images),
            subject.labels,
            keep_probs=settings.keep_probs,
            block_sizes=settings.block_sizes,
        )
        rows += subject.rows(found)
    panels = [
        charts.Panel(
            f"DropBlock at inference, block_size {size}",
            "keep_prob",
            "accuracy",
            charts.series(
                [row for row in rows if row["block_size"] == size],
                "keep_prob",
                "accuracy",
            ),
        )
        for size in settings.block_sizes
    ]
    charts.draw(panels, pathlib.Path(folder, "robustness.png"))
    title = "Scores with DropBlock left on at inference"
    write(folder, "robustness", title, rows, subjects, settings)


def _under_corruption(subjects, folder, settings):
    rows = []
    for subject in subjects:
        found = score_under_corruption(
            subject.model, subject.inputs, subject.images, subject.labels
        )
        rows += subject.rows(found)
    kinds = dict.fromkeys(row["kind"] for row in rows)
    panels = [
        charts.Panel(
            kind,
            "strength",
            "accuracy",
            charts.series(
                [row for row in rows if row["kind"] in ("none", kind)],
                "strength",
                "accuracy",
            ),
        )
        for kind in kinds
        if kind != "none"
    ]
    charts.draw(panels, pathlib.Path(folder, "corruptions.png"))
    title = "Scores on corrupted images (not those of CIFAR-10-C)"
    write(folder, "corruptions", title, rows, subjects, settings)


def _under_occlusion(subjects, folder, settings):
    rows = []
    for subject in subjects:
        side = min(subject.images.shape[1:3])
        found = score_under_occlusion(
            subject.model,
            subject.inputs(subject.images),
            subject.labels,
            sizes=[side // 8, side // 4, side * 3 // 8, side // 2],
        )
        rows += subject.rows(found)
    panels = [
        charts.Panel(
            title,
            "side of the square, pixels",
            "accuracy",
            charts.series(rows, "size", key),
        )
        for title, key in (
            ("Mean over the positions of a square", "accuracy"),
            ("Correct at every position", "worst"),
        )
    ]
    charts.draw(panels, pathlib.Path(folder, "occlusion.png"))
    title = "Scores when a square hides a part of the image"
    write(folder, "occlusion", title, rows, subjects, settings)


STUDIES = {
    "maps": study_maps,
    "redundancy": study_redundancy,
    "blocks": study_blocks,
    "robustness": study_robustness,
    "uncertainty": study_uncertainty,
}
