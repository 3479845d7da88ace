"""Scores and pictures of object detection."""

import json

import numpy as np
import pytest

from keras_dropblock.analysis import detection
from keras_dropblock.data.annotated import Objects


def objects(boxes, classes, size=(100, 200), crowd=None):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Objects(size, boxes, np.array(classes, int), crowd, sides.prod(1))


def found(boxes, scores, classes):
    return {
        "boxes": np.array(boxes, "float32").reshape(-1, 4),
        "scores": np.array(scores, "float32"),
        "classes": np.array(classes, int),
    }


TRUTH = [
    objects([[10, 10, 50, 60], [20, 100, 90, 190]], [0, 1]),
    objects([[0, 0, 20, 20], [5, 50, 95, 180]], [1, 1], crowd=[False, True]),
    objects([], []),
]
FOUND = [
    found(
        [[12, 10, 50, 58], [20, 100, 90, 190], [0, 0, 30, 30]],
        [0.9, 0.6, 0.4],
        [0, 0, 1],
    ),
    # The second lies in a crowd, which is not an error.
    found([[0, 1, 21, 20], [10, 60, 60, 120]], [0.8, 0.95], [1, 1]),
    found([], [], []),
]


def test_overlaps_are_intersection_over_union():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 4, 4]]
    others = [[0, 5, 10, 15], [20, 20, 30, 30]]
    iou = detection.overlaps(boxes, others)
    assert iou[:2].tolist() == [[1 / 3, 0]] * 2 and iou[2, 0] == 0


def test_confusions_count_each_object_once():
    counts = detection.confusions(TRUTH, FOUND, 2)
    assert counts.tolist() == [
        [1, 0, 0],  # the dog, found
        [1, 1, 0],  # one cup as a dog, one as a cup
        [0, 2, 0],  # where there is nothing (crowds do not count)
    ]
    nothing = [found([], [], [])] * 3
    counts = detection.confusions(TRUTH, nothing, 2)
    assert counts[:, 2].tolist() == [1, 2, 0] and counts.sum() == 3


def test_ap_equals_pycocotools_on_the_same_json_by_hand(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = {
        "images": [{"id": i, "height": 100, "width": 200} for i in range(3)],
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cup"}],
        "annotations": [
            {
                "id": n,
                "image_id": i,
                "category_id": c,
                "bbox": b,
                "area": a,
                "iscrowd": crowd,
            }
            for n, i, c, b, a, crowd in (
                (1, 0, 0, [10, 10, 50, 40], 2000, 0),
                (2, 0, 1, [100, 20, 90, 70], 6300, 0),
                (3, 1, 1, [0, 0, 20, 20], 400, 0),
                (4, 1, 1, [50, 5, 130, 90], 11700, 1),
            )
        ],
    }
    results = [
        {"image_id": i, "category_id": c, "bbox": b, "score": s}
        for i, c, b, s in (
            (0, 0, [10, 12, 48, 38], 0.9),
            (0, 0, [100, 20, 90, 70], 0.6),
            (0, 1, [0, 0, 30, 30], 0.4),
            (1, 1, [1, 0, 19, 21], 0.8),
            (1, 1, [60, 10, 60, 50], 0.95),
        )
    ]
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(
        coco, coco.loadRes(str(tmp_path / "results.json")), "bbox"
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    scores = detection.average_precision(TRUTH, FOUND, ("dog", "cup"))
    for name, value in zip(
        detection.SUMMARY, evaluation.stats[:6], strict=True
    ):
        expected = np.nan if value < 0 else value
        assert scores[name] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert 0 < scores["ap"] < scores["ap50"] < 1
    assert scores["images"] == 3 and np.isnan(scores["ap_large"])
    # The dog was found with an IoU of 0.912: right at 9 of 10 thresholds.
    assert scores["class_ap"]["dog"] == pytest.approx(0.9)


def test_ap_is_1_for_the_truth_and_0_for_nothing():
    pytest.importorskip("pycocotools")
    right = [
        found(
            o.boxes[~o.crowd],
            np.full((~o.crowd).sum(), 0.9),
            o.classes[~o.crowd],
        )
        for o in TRUTH
    ]
    names = ("dog", "cup")
    assert detection.average_precision(TRUTH, right, names)["ap"] == (
        pytest.approx(1)
    )
    nothing = [found([], [], [])] * 3
    scores = detection.average_precision(TRUTH, nothing, names)
    assert scores["ap"] == 0 and scores["class_ap"] == {"dog": 0, "cup": 0}


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((40, 60, 1), "uint8")
    drawn = detection.draw_boxes(image, [[10, 20, 30, 50]], [""], [(255, 0, 9)])
    assert drawn.shape == (40, 60, 3)
    rows, columns = np.nonzero(drawn[..., 0])
    assert [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] == [
        10,
        20,
        30,
        50,
    ]
    assert (drawn[11:29, 21:49] == 0).all()


def test_names_are_drawn_above_their_boxes_and_within_the_image():
    pytest.importorskip("PIL", reason="Pillow is not installed")
    gray = np.full((96, 128, 3), 120, np.uint8)
    red, blue = (200, 0, 0), (0, 0, 200)
    boxes = [[30, 5, 90, 45], [0, 100, 50, 128]]
    names = ["a person who is walking", "a car"]
    drawn = detection.draw_boxes(gray, boxes, names, [red, blue])
    changed = (drawn != gray).any(-1)
    # The first name is longer than its box is wide. It has room above.
    assert not changed[31:89, 6:44].any()
    assert (drawn[20:30, 5:] == red).all(-1).any()
    # The second box is at the upper and the right edge.
    name = changed[1:49, 101:127]
    assert (drawn[:12, 100:] == blue).all(-1).mean() > 0.2
    assert not name[14:].any()
    assert not changed[:19, :100].any()
