"""The convolution of residual networks and its padding."""

import keras
import numpy as np
import pytest

from keras_dropblock.layers.convolution import SymmetricConv2D


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (5, 8)])
def test_convolution_pads_equally_on_every_side(kernel_size, strides, size):
    conv = SymmetricConv2D(4, kernel_size, strides, use_bias=False)
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(conv(x))
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    pad = kernel_size // 2
    padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    expected = np.zeros_like(y)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            top, left = i * strides, j * strides
            window = padded[
                :, top : top + kernel_size, left : left + kernel_size
            ]
            expected[:, i, j] = np.einsum("nhwc,hwcf->nf", window, kernel)
    assert np.allclose(y, expected, atol=1e-4)
    assert y.shape == conv.compute_output_shape(x.shape)
    assert y.shape[1:3] == tuple(-(-side // strides) for side in size)


def test_a_corner_shows_the_padding_of_torch():
    # Input and 3 x 3 kernel are ones, the stride is 2. In the first corner the
    # kernel covers 2 x 2 units with Torch's padding, and 3 x 3 units with
    # Keras's "same" on an even map.
    conv = SymmetricConv2D(1, 3, 2, use_bias=False, kernel_initializer="ones")
    corner = keras.ops.convert_to_numpy(conv(np.ones((1, 8, 8, 1))))[0, 0, 0, 0]
    assert corner == 4
    same = keras.layers.Conv2D(1, 3, 2, "same", kernel_initializer="ones")
    assert (
        keras.ops.convert_to_numpy(same(np.ones((1, 8, 8, 1))))[0, 0, 0, 0] == 9
    )


def test_convolution_survives_its_config():
    conv = SymmetricConv2D(4, 3, 2, use_bias=False)
    copy = SymmetricConv2D.from_config(conv.get_config())
    assert copy.get_config() == conv.get_config()
    assert copy.padding == "valid" and copy.strides == (2, 2)
