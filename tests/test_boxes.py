"""Data sets with boxes: generated shapes, COCO's layout, TFDS."""

import json

import numpy as np
import pytest

from keras_dropblock import data
from keras_dropblock.data import annotated, shapes
from keras_dropblock.errors import DataError

tf = pytest.importorskip("tensorflow")


def opened(source, **options):
    return data.load(source, labels="boxes", **options)


# --- generated shapes


def test_boxes_and_masks_of_shapes_are_exact_and_agree():
    boxes = opened("shapes")
    masks = data.load("shapes", labels="masks")
    assert masks.class_names == ("ground", *boxes.class_names)
    assert boxes.image_shape == (96, 128, 3)
    _, rows = boxes.arrays["test"]
    seen = set()
    for i in range(8):
        _, classes, instances = shapes.example("test", i, (96, 128))
        mask = masks.arrays["test"][1][i : i + 1][0]
        labels = rows[i]["labels"]
        assert (labels >= 0).sum() == len(classes)
        for k, label in enumerate(classes):
            top, left, bottom, right = rows[i]["boxes"][k].astype(int)
            inside = instances == k + 1
            assert (mask[inside] == label + 1).all()
            # The box holds the shape, and none of its sides is too far out.
            assert inside.sum() == inside[top:bottom, left:right].sum()
            part = inside[top:bottom, left:right]
            assert part[[0, -1]].any(1).all() and part[:, [0, -1]].any(0).all()
            seen.add(int(label))
    assert seen == {0, 1, 2}


def test_shapes_are_the_same_each_time_and_differ():
    one = opened("shapes").arrays["train"][0][:3]
    shapes.example.cache_clear()
    np.testing.assert_array_equal(one, opened("shapes").arrays["train"][0][:3])
    assert (one[0] != one[1]).any()
    larger = opened("shapes", image_size=(64, 160))
    assert larger.arrays["train"][0][:1].shape == (1, 64, 160, 3)
    with pytest.raises(DataError, match="at least 48"):
        opened("shapes", image_size=32)


def test_validation_images_are_taken_from_the_training_images():
    dataset = opened("shapes", validation_split=0.25)
    assert dataset.size("train") == 96 and dataset.size("validation") == 32
    whole = opened("shapes").arrays["train"][1]
    parts = [dataset.arrays[s][1] for s in ("train", "validation")]
    assert (
        sum((p.labels >= 0).sum() for p in parts) == (whole.labels >= 0).sum()
    )
    # All splits have the same width, so that no step is traced twice.
    assert parts[0].room == parts[1].room == whole.room


# --- COCO's layout


def write_coco(root, annotations=None, images=None, of_test=None):
    """Two training and one validation image of 20 x 40 pixels."""
    images = images or [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 40},
        {"id": 3, "file_name": "b.png", "height": 20, "width": 40},
    ]
    annotations = annotations or [
        _annotation(1, 7, 18, [4, 5, 10, 6]),
        _annotation(2, 7, 18, [0, 0, 40, 20], iscrowd=1),
        _annotation(3, 7, 44, [30, 10, 20, 20]),  # reaches beyond the image
        _annotation(4, 7, 44, [5, 5, 0, 6]),  # has no area
    ]
    (root / "annotations").mkdir(exist_ok=True)
    for split in ("train2017", "val2017"):
        (root / split).mkdir(exist_ok=True)
        for image in images:
            pixels = np.full((20, 40, 3), image["id"], "uint8")
            encoded = tf.io.encode_png(pixels).numpy()
            (root / split / image["file_name"]).write_bytes(encoded)
        content = {
            "images": images,
            "annotations": annotations
            if of_test is None or split == "train2017"
            else of_test,
            # Not sorted by id, unlike in COCO's own files.
            "categories": [
                {"id": 44, "name": "cup"},
                {"id": 18, "name": "dog"},
            ],
        }
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))


def _annotation(number, image, category, bbox, **more):
    keys = {"id": number, "image_id": image, "category_id": category}
    return {**keys, "bbox": bbox, **more}


def test_boxes_of_coco_are_read_repaired_and_counted(tmp_path):
    write_coco(tmp_path)
    dataset = opened(f"coco:{tmp_path}", image_size=(40, 60))
    assert dataset.class_names == ("dog", "cup")  # by id
    images, boxes = dataset.arrays["train"]
    assert images[:1][0, 0, 0].tolist() == [7] * 3
    # 20 x 40 becomes 30 x 60. x 4, y 5, width 10, height 6 in corners.
    assert boxes[0]["boxes"][0].tolist() == [7.5, 6, 16.5, 21]
    # Clipped to the image. The crowd is not trained on.
    assert boxes[0]["boxes"][1].tolist() == [15, 45, 30, 60]
    assert boxes[0]["labels"].tolist() == [0, 1]
    assert boxes[1]["labels"].tolist() == [-1, -1]
    assert boxes.objects[0].crowd.tolist() == [False, True, False]
    assert dataset.notes[:3] == (
        "train2017: Clipped 1 boxes to their images.",
        "train2017: Left out 1 boxes without area.",
        "train2017: 1 of 2 images have no objects.",
    )


def test_errors_of_coco_name_the_file_and_the_annotation(tmp_path):
    source = f"coco:{tmp_path}"
    for annotation, text in (
        (_annotation(9, 7, 99, [0, 0, 1, 1]), "annotation 9 .*category 99"),
        (_annotation(9, 8, 18, [0, 0, 1, 1]), "annotation 9 .*image 8"),
        (_annotation(9, 7, 18, [0, 0, 1]), "annotation 9 .*4 finite numbers"),
        ({"id": 9}, "Missing or of a wrong type: 'category_id'"),
    ):
        write_coco(tmp_path, [annotation])
        with pytest.raises(DataError, match=f"(?s){text}"):
            opened(source, image_size=32)
    with pytest.raises(DataError, match="`image_size` must be given"):
        opened(source)
    with pytest.raises(DataError, match="with classes for this task"):
        data.load(source, image_size=32)
    wrong = [{"id": 7, "file_name": "a.png", "height": 21, "width": 40}]
    write_coco(tmp_path, [_annotation(1, 7, 18, [0, 0, 9, 9])], wrong)
    dataset = opened(source, image_size=32)
    with pytest.raises(DataError, match=r"a.png must have the size .*\(21, 40"):
        dataset.arrays["train"][0][:1]
    (tmp_path / "annotations/instances_val2017.json").write_text("[1")
    with pytest.raises(DataError, match="val2017.json cannot be read"):
        opened(source, image_size=32)


def test_absent_images_are_an_error_or_left_out_and_counted(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "train2017" / "b.png").unlink()
    source = f"coco:{tmp_path}"
    with pytest.raises(DataError, match="lists 1 of 2 images .*b.png"):
        opened(source, image_size=32)
    dataset = opened(source, image_size=32, skip_broken=True)
    assert dataset.size("train") == 1
    assert dataset.notes[0].startswith("train2017: Left out 1 absent images.")
    # Only what is used must be there.
    assert opened(source, image_size=32, train_split="train[:1]").size("train")
    (tmp_path / "train2017" / "a.png").unlink()
    with pytest.raises(DataError, match="at least one .*2 are absent and 0"):
        opened(source, image_size=32, skip_broken=True)


def test_undecodable_images_are_an_error_or_left_out_and_counted(tmp_path):
    write_coco(tmp_path)
    broken = tmp_path / "train2017" / "b.png"
    broken.write_bytes(broken.read_bytes()[:40])
    source = f"coco:{tmp_path}"
    images, _ = opened(source, image_size=32).arrays["train"]
    with pytest.raises(DataError, match="b.png cannot be decoded"):
        images[:]
    dataset = opened(source, image_size=32, skip_broken=True)
    images, boxes = dataset.arrays["train"]
    assert images[:][:, 0, 0, 0].tolist() == [7] and len(boxes) == 1
    assert (
        f"train2017: Left out 1 undecodable images. The first is {broken}."
        in (dataset.notes)
    )


def test_only_repairs_of_images_in_use_are_counted(tmp_path):
    images = [
        {"id": i, "file_name": f"{i}.png", "height": 20, "width": 40}
        for i in range(5)
    ]
    annotations = [_annotation(9, 0, 18, [0, 0, 50, 9])]  # clipped
    annotations += [_annotation(i, i, 18, [0, 0, 50, 9]) for i in (1, 2)]
    annotations += [_annotation(20 + i, i, 18, [0, 0, 0, 9]) for i in range(4)]
    write_coco(tmp_path, annotations, images)
    (tmp_path / "train2017" / "1.png").unlink()
    dataset = opened(
        f"coco:{tmp_path}",
        image_size=32,
        train_split="train[:2]",
        skip_broken=True,
    )
    train = [note for note in dataset.notes if note.startswith("train")]
    assert train[1:] == [
        "train2017: Clipped 1 boxes to their images.",
        "train2017: Left out 1 boxes without area.",
    ]
    assert dataset.notes[-3:] == (
        "val2017: Clipped 3 boxes to their images.",
        "val2017: Left out 4 boxes without area.",
        "val2017: 2 of 5 images have no objects.",
    )


def test_a_split_of_coco_without_any_object_is_an_error(tmp_path):
    source = f"coco:{tmp_path}"
    box = [_annotation(1, 7, 18, [0, 0, 9, 9])]
    crowd = [_annotation(1, 7, 18, [0, 0, 9, 9], iscrowd=1)]
    for none in ([], crowd):
        write_coco(tmp_path, box, of_test=none)
        with pytest.raises(DataError, match="2 images of .*val2017.json have"):
            opened(source, image_size=32)
    write_coco(tmp_path, box)
    assert opened(source, image_size=32).size("test") == 2
    with pytest.raises(DataError, match="1 images of .*train2017.json have"):
        opened(source, image_size=32, train_split="train[1:]")


def test_a_part_of_the_training_images_can_be_chosen(tmp_path):
    write_coco(tmp_path, [_annotation(i, i, 18, [0, 0, 9, 9]) for i in (3, 7)])
    source = f"coco:{tmp_path}"
    for split, ids in (("train[:1]", [7]), ("train[1:]", [3]), ("train", None)):
        dataset = opened(source, image_size=32, train_split=split)
        images = dataset.arrays["train"][0]
        assert ids is None or images[:][:, 0, 0, 0].tolist() == ids
        assert dataset.size("test") == 2
    with pytest.raises(DataError, match="`train_split` must read like"):
        opened(source, image_size=32, train_split="train[:10%]")
    with pytest.raises(DataError, match="Of the 0 images in this split"):
        opened(source, image_size=32, train_split="train[5:]")


def test_the_coco_sample_is_read_whole(coco_sample):
    dataset = opened(f"coco:{coco_sample}", image_size=128)
    assert len(dataset.class_names) == 80
    sizes = [dataset.size(s) for s in ("train", "test")]
    boxes = [
        (dataset.arrays[s][1].labels >= 0).sum() for s in ("train", "test")
    ]
    assert sizes == [128, 64] and boxes == [929, 440]
    assert dataset.arrays["test"][0][:4].shape == (4, 128, 128, 3)


# --- TensorFlow Datasets


def test_penn_fudan_is_read_from_tfds(penn_fudan):
    dataset = opened(
        penn_fudan,
        image_size=128,
        train_split="train[:120]",
        test_split="train[120:130]",
    )
    assert dataset.size("train") == 120 and dataset.size("test") == 10
    assert dataset.class_names == ("PASpersonWalking", "PASpersonStanding")
    images, boxes = dataset.arrays["test"]
    assert images[:2].shape == (2, 128, 128, 3)
    assert boxes.boxes.max() <= 128
    sides = boxes.boxes[..., 2:] - boxes.boxes[..., :2]
    tall = (sides[..., 0] > sides[..., 1])[boxes.labels >= 0]
    assert tall.mean() > 0.9  # pedestrians stand


@pytest.fixture
def little_coco(tmp_path):
    """Options to open a set with COCO's features and unlabeled test images."""
    return _prepared(
        tmp_path,
        "little_coco",
        {
            "area": "int64",
            # Without a format, TFDS does not check the limits of boxes, so
            # some can reach beyond the image.
            "bbox": None,
            "id": "int64",
            "is_crowd": "bool",
            "label": ["person", "dog"],
        },
        [
            # y, x, y, x in fractions of images of 20 x 40 pixels
            [
                {"area": 90, "bbox": [0.2, 0.1, 0.8, 0.5], "label": 1},
                {"area": 800, "bbox": [0, 0, 1, 1], "is_crowd": True},
                {"area": 40, "bbox": [0.5, 0.75, 1.5, 1.25], "label": 0},
                {"area": 0, "bbox": [0.5, 0.5, 0.5, 0.75], "label": 0},
            ],
            [],
        ],
    )


@pytest.mark.parametrize("kind", ["XYWH", "YXYX"])
def test_boxes_in_another_format_are_refused(kind, tmp_path):
    box = {"bbox": [1, 2, 5, 9], "label": 0}
    features = {"bbox": kind, "label": ["person"]}
    options = _prepared(tmp_path, "other_boxes", features, [[box]])
    with pytest.raises(DataError, match=f"REL_YXYX.*Received: {kind} in other"):
        opened(**options)


def _prepared(folder, name, features, objects):
    """Write a detection set of TFDS whose test images have no objects."""
    tfds = pytest.importorskip("tensorflow_datasets")
    kinds = {
        key: tfds.features.ClassLabel(names=kind)
        if isinstance(kind, list)
        else tfds.features.BBoxFeature(bbox_format=kind)
        if key == "bbox"
        else tfds.features.Scalar(np.dtype(kind).type)
        for key, kind in features.items()
    }
    default = {key: 0 for key in kinds}

    def examples(of_split):
        for i, of_image in enumerate(of_split):
            found = [
                {**default, **o, "bbox": np.float32(o["bbox"])}
                for o in of_image
            ]
            image = np.full((20, 40, 3), 100 + i, "uint8")
            yield i, {"image": image, "objects": found}

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="png"),
                "objects": tfds.features.Sequence(kinds),
            }
        ),
        split_datasets={
            "train": examples(objects),
            "validation": examples(objects),
            "test": examples([[], []]),
        },
        data_dir=folder,
        disable_shuffling=True,
    )
    return {"source": name, "data_dir": str(folder), "image_size": 40}


def test_boxes_of_tfds_are_read_repaired_and_counted(little_coco):
    dataset = opened(**little_coco, test_split="validation")
    assert dataset.class_names == ("person", "dog")
    assert dataset.splits == ("train", "test")
    for split in dataset.splits:
        images, boxes = dataset.arrays[split]
        assert images[:][:, 0, 0, 0].tolist() == [100, 101]
        # The frame is 40 x 40. y 0.2 of 20 pixels, x 0.1 of 40 pixels, ...
        assert boxes[0]["boxes"].tolist() == [[4, 4, 16, 20], [10, 30, 20, 40]]
        assert boxes[0]["labels"].tolist() == [1, 0]
        assert boxes[1]["labels"].tolist() == [-1, -1]
        first, second = boxes.objects
        assert first.size == (20, 40) and len(second.boxes) == 0
        assert first.crowd.tolist() == [False, True, False]
        assert first.area.tolist() == [90, 800, 40]
    assert dataset.notes == tuple(
        f"{part}: {note}"
        for part in ("train", "validation")
        for note in (
            "Clipped 1 boxes to their images.",
            "Left out 1 boxes without area.",
            "1 of 2 images have no objects.",
        )
    )


def test_boxes_of_voc_are_read_from_tfds(tmp_path):
    options = _prepared(
        tmp_path,
        "little_voc",
        {
            "bbox": "REL_YXYX",
            "is_difficult": "bool",
            "is_truncated": "bool",
            "label": ["aeroplane", "bicycle", "bird"],
            "pose": ["frontal", "rear"],
        },
        [[{"bbox": [0.5, 0.25, 1, 0.75], "label": 2}]],
    )
    dataset = opened(**options, test_split="validation")
    _, boxes = dataset.arrays["test"]
    assert dataset.class_names == ("aeroplane", "bicycle", "bird")
    assert boxes[0]["boxes"].tolist() == [[10, 10, 20, 30]]
    # VOC has no areas and no crowds: 10 x 20 pixels.
    assert boxes.objects[0].area.tolist() == [200]
    assert boxes.objects[0].crowd.tolist() == [False]
    assert not dataset.notes


def test_a_split_of_tfds_without_any_object_is_an_error(little_coco):
    slip = "test_split = 'validation'"
    with pytest.raises(
        DataError, match=f"`test_split` must .*little_coco test have .*{slip}"
    ):
        opened(**little_coco)
    with pytest.raises(DataError, match="`validation_split` must"):
        opened(**little_coco, test_split="validation", validation_split="test")
    with pytest.raises(DataError, match="`train_split` must"):
        opened(**little_coco, test_split="validation", train_split="train[1:]")
    # One of the two images has no objects.
    with pytest.raises(DataError, match="1 images of the (train|val.*) split"):
        opened(**little_coco, test_split="validation", validation_split=0.5)


def test_cleaned_boxes_lie_in_the_image_and_have_an_area():
    boxes = [[-5, 2, 8, 9], [1, 1, 1, 4], [0, 0, 10.2, 20], [30, 0, 40, 9]]
    clipped, kept, changed = annotated.cleaned(boxes, (10, 20))
    assert kept.tolist() == [True, False, True, False]
    assert clipped[0].tolist() == [0, 2, 8, 9] and changed == 1
    none, kept, changed = annotated.cleaned([], (10, 20))
    assert none.shape == (0, 4) and not len(kept) and changed == 0


def test_rows_are_read_once_and_in_order():
    read = []

    def row(i):
        read.append(i)
        return np.full((2, 2), i)

    rows = annotated.Rows([lambda i=i: row(i) for i in range(5)], (2, 2))
    assert rows[np.array([3, 1, 3])][:, 0, 0].tolist() == [3, 1, 3]
    assert rows[1:4].shape == (3, 2, 2) and sorted(read) == [1, 2, 3]
    assert rows.some([4, 0])[:2][:, 0, 0].tolist() == [4, 0]
    assert rows[5:].shape == (0, 2, 2) and rows.shape == (5, 2, 2)
