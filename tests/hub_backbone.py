"""A small backbone of KerasHub, for tests of what works on any network."""

import pytest


def keras_hub_backbone():
    """A ResNet with two stages for images of 64 x 96 pixels.

    The test is skipped if KerasHub is not installed.
    """
    return pytest.importorskip("keras_hub").models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        use_pre_activation=True,
        image_shape=(64, 96, 3),
    )
