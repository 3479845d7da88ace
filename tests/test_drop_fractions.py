"""The computed fraction of dropped units is that of the layer."""

import keras
import numpy as np
import pytest

from keras_dropblock import DropBlock2D
from keras_dropblock.analysis import drop_fractions


def test_without_overlap_the_fraction_is_one_minus_keep_prob():
    # A block of one unit never overlaps, and a block as large as the map is
    # the only one.
    for block_size, size in ((1, 9), (7, 7), (11, 7)):
        fraction = drop_fractions.expected(0.9, block_size, size)
        assert fraction == pytest.approx(0.1)


@pytest.mark.parametrize(
    "size, block_size, at_90, at_75, at_975",
    [
        (14, 7, 0.0929, 0.2095, 0.0245),
        (56, 7, 0.0946, 0.2182, 0.0247),
        (16, 5, 0.0940, 0.2147, 0.0246),
        (8, 3, 0.0947, 0.2188, 0.0247),
        (21, 11, 0.0925, 0.2072, 0.0245),
    ],
)
def test_known_fractions(size, block_size, at_90, at_75, at_975):
    for keep_prob, known in ((0.9, at_90), (0.75, at_75), (0.975, at_975)):
        fraction = drop_fractions.expected(keep_prob, block_size, size)
        assert fraction == pytest.approx(known, abs=6e-5)


def test_corners_are_dropped_less_than_the_middle():
    found = drop_fractions.by_position(0.9, 7, 14)
    assert found.shape == (14, 14)
    assert found[0, 0] == pytest.approx(0.00625)  # one position: gamma
    assert found[7, 7] == pytest.approx(1 - (1 - 0.00625) ** 49)  # 7 x 7


def test_the_layer_drops_this_fraction_of_a_rectangular_map():
    layer = DropBlock2D(keep_prob=0.75, block_size=4, seed=1)
    kept = layer(keras.ops.ones((400, 5, 9, 16)), training=True)
    found = (keras.ops.convert_to_numpy(kept) == 0).mean((0, 3))
    # 6,400 maps: the standard deviation of each mean is at most 0.0063.
    expected = drop_fractions.by_position(0.75, 4, 5, 9)
    np.testing.assert_allclose(found, expected, atol=0.03)
