"""How far activation maps spread."""

import numpy as np
import pytest

from keras_dropblock.analysis.spread import (
    measure_spread,
    resize,
    summarize,
)


def test_a_constant_map_covers_all_and_a_single_position_covers_one():
    one = np.zeros((4, 6))
    one[1, 2] = 7
    measures = measure_spread(np.stack([np.full((4, 6), 0.3), one]))
    assert np.allclose(measures["area"], [1, 1 / 24])
    assert np.allclose(measures["entropy"], [1, 0])
    assert measures["peaks"].tolist() == [1, 1]


def test_measures_do_not_depend_on_the_maps_scale_or_negative_values():
    maps = np.random.default_rng(0).normal(size=(5, 6, 8))
    scaled = np.where(maps > 0, 3 * maps, 100 * maps)
    for name, values in measure_spread(maps).items():
        assert np.allclose(measure_spread(scaled)[name], values), name


def test_peaks_by_eye():
    maps = [
        [
            [9, 0, 0, 0, 5],  # 5 is above half of 9, 4 is not
            [0, 0, 4, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 6, 0, 0, 0],
            [0, 0, 6, 0, 0],  # touches the other 6 at a corner
        ]
    ]
    measures = measure_spread(np.array(maps))
    assert measures["peaks"].tolist() == [3]
    assert measures["area"].tolist() == [4 / 25]


def test_the_share_inside_of_a_mask_by_hand():
    maps = np.array([[[3.0, 1.0]], [[-1.0, 2.0]]])
    masks = np.zeros((2, 1, 2), bool)
    masks[:, :, 0] = True
    inside = measure_spread(maps, masks)["inside"]
    assert inside.tolist() == [0.75, 0.0]
    # A constant map has the share of the mask's area at any size.
    masks = np.zeros((1, 7, 5), bool)
    masks[0, :3] = True
    inside = measure_spread(np.ones((1, 2, 2)), masks)["inside"]
    assert inside == pytest.approx([3 / 7])


def test_a_map_is_resized_as_an_image():
    row = resize(np.array([[0.0, 1.0]]), (1, 4))
    assert np.allclose(row, [[0, 0.25, 0.75, 1]])
    ramp = np.arange(12.0).reshape(3, 4)
    assert np.allclose(resize(ramp, (3, 4)), ramp)


def test_empty_maps_are_counted_and_not_averaged():
    measures = measure_spread(np.stack([np.zeros((2, 2)), np.eye(2)]))
    assert np.isnan(measures["area"][0])
    summary = summarize(measures)
    assert summary["area"] == 0.5 and summary["peaks"] == 1
    assert summary["images"] == 2 and summary["empty"] == 1
    assert np.isnan(summarize(measure_spread(-np.ones((1, 2, 2))))["entropy"])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="`maps` must have the shape"):
        measure_spread(np.ones((2, 2)))
    with pytest.raises(ValueError, match="`masks` must be a bool array"):
        measure_spread(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
