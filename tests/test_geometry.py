"""Moves of images with boxes and masks, and frames of fixed size."""

import numpy as np
import pytest

from keras_dropblock import data
from keras_dropblock.data import augmentation, framing, geometry

tf = pytest.importorskip("tensorflow")


def rectangles(height=40, width=56):
    """Images with one bright rectangle each, its box and its mask."""
    boxes = np.array([[8, 4, 24, 20], [12, 30, 36, 50]], "float32")
    images = np.zeros((2, height, width, 3), "float32")
    for image, (top, left, bottom, right) in zip(
        images, boxes.astype(int), strict=True
    ):
        image[top:bottom, left:right] = 1
    return images, boxes[:, None], (images[..., 0] > 0).astype("uint8")


def box_around(mask):
    rows, columns = np.nonzero(mask)
    return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


# The whole image stays in the window for scales up to 1.
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("jitter", [(1.0, 1.0), (0.5, 1.0), (1.0, 1.6)])
def test_boxes_and_masks_move_with_the_image(jitter, flip):
    images, boxes, masks = rectangles()
    labels = np.array([[3], [1]])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        drawn = geometry.draw(rng, 2, 40, 56, jitter=jitter, flip=flip)
        moved, targets = geometry.move(
            images, {"boxes": boxes, "labels": labels}, *drawn
        )
        _, masks_moved = geometry.move(images, masks, *drawn)
        for i in range(2):
            if targets["labels"][i, 0] == geometry.NO_BOX:
                continue
            bright = moved[i, ..., 0] > 0.5
            # The sampling grid rounds to whole pixels.
            np.testing.assert_allclose(
                box_around(bright), targets["boxes"][i, 0], atol=1.0
            )
            mask = masks_moved[i]
            assert ((mask == 1) == bright).mean() > 0.98
            outside = mask == geometry.IGNORED
            assert (moved[i][outside] == 0).all()


def test_a_flip_alone_mirrors_exactly():
    images, boxes, masks = rectangles()
    still = np.ones(2, "float32"), np.zeros((2, 2), "float32")
    mirrored = np.array([True, False])
    moved, targets = geometry.move(
        images,
        {"boxes": boxes, "labels": np.zeros((2, 1), int)},
        *still,
        mirrored,
    )
    np.testing.assert_array_equal(moved[0], images[0, :, ::-1])
    np.testing.assert_array_equal(moved[1], images[1])
    # x of 4 to 20 in a width of 56 becomes 36 to 52.
    assert targets["boxes"][0, 0].tolist() == [8, 36, 24, 52]
    _, masks = geometry.move(images, masks, *still, mirrored)
    np.testing.assert_array_equal(masks[0], images[0, :, ::-1, 0])


def test_a_box_that_leaves_the_image_is_no_box():
    boxes = np.array([[[0, 0, 10, 10], [30, 30, 40, 40]]], "float32")
    images = np.zeros((1, 40, 40, 3), "float32")
    _, targets = geometry.move(
        images,
        {"boxes": boxes, "labels": np.array([[2, 5]])},
        np.full(1, 2.0, "float32"),
        np.full((1, 2), 40.0, "float32"),  # the lower right quarter
        np.array([False]),
    )
    assert targets["labels"].tolist() == [[geometry.NO_BOX, 5]]
    assert targets["boxes"].tolist() == [[[0, 0, 0, 0], [20, 20, 40, 40]]]


def test_draws_depend_on_the_generator_alone_and_reach_apply():
    images = np.full((2, 8, 8, 3), 100, "uint8")
    drawn = [
        augmentation.draw(
            np.random.default_rng(1), 2, 8, 8, jitter=(0.5, 0.5), flip=True
        )
        for _ in range(2)
    ]
    assert [*drawn[0]] == ["move"]
    for a, b in zip(drawn[0]["move"], drawn[1]["move"], strict=True):
        np.testing.assert_array_equal(a, b)
    normalize = data.Preprocessing((8, 8), (90,) * 3, (10,) * 3).normalize
    moved, masks = augmentation.apply(
        drawn[0],
        images,
        np.zeros((2, 8, 8), "uint8"),
        pad=0,
        normalize=normalize,
    )
    # The image fills a quarter of the window; the rest is the mean.
    assert (masks == 0).mean() == 0.25
    # Pixels on the border are blended.
    assert moved.min() == 0 and moved.max() == 1
    assert moved[masks == 0].mean() > 0.75 > 0.1 > moved[masks == 255].mean()


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (64, 64), (7, 200)])
def test_a_frame_holds_the_whole_image_and_scales_lead_back(size):
    frame = (64, 96)
    content = framing.content_size(size, frame)
    assert content == tuple(framing.graph_content_size(size, frame).numpy())
    # The image touches the frame, and keeps its shape up to rounding.
    assert content[0] == 64 or content[1] == 96
    assert abs(content[0] / content[1] - size[0] / size[1]) < 0.2
    np.testing.assert_allclose(framing.scales(size, frame) * size, content)
    image = np.full((*size, 3), 200, "uint8")
    framed = framing.frame_image(tf.constant(image), frame, (7, 8, 9)).numpy()
    assert framed.shape == (64, 96, 3)
    assert (framed[: content[0], : content[1]] == 200).all()
    rest = np.ones(frame, bool)
    rest[: content[0], : content[1]] = False
    assert (framed[rest] == (7, 8, 9)).all()


def test_an_image_of_the_frames_size_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), "uint8")
    preprocessing = data.Preprocessing(
        (16, 24), (1.4, 2.6, 3.0), (1.0,) * 3, framing="pad"
    )
    assert preprocessing.fill == (1, 3, 3)
    np.testing.assert_array_equal(preprocessing.fit(tf.constant(image)), image)
    assert data.Preprocessing.from_dict(preprocessing.to_dict()) == (
        preprocessing
    )
    with pytest.raises(data.DataError, match="`framing` must be one of"):
        data.Preprocessing((8, 8), (1.0,), (1.0,), framing="stretch")
