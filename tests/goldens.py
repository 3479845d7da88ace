"""One line for each network that must pass every conformance test.

These are small networks of each family. They use the same builders and blocks
as the large networks, whose sizes are tested in test_wide_resnet.py and
test_resnet.py.
"""

import functools

from keras_dropblock.models import (
    WRN,
    CifarResNet,
    HighwayNet,
    PreActResNet,
    ResNet,
)

EVERY = {"dropout": 0.1, "spatial_dropout": 0.1, "survival_prob": 0.9}
ALL = {"keep_prob": 0.8, "block_size": 3, "dropblock_groups": (1, 2, 3)}
BOTTLENECK = {"bottleneck": True}


def _golden(build, *arguments, shape=(16, 16, 3), **options):
    return functools.partial(build, *arguments, **options), shape


# Builder, image shape, number of trainable parameters, number of layers of the
# functional model. The first five are tested by default, the others only with
# the slow tests.
GOLDENS = {
    "WRN-10-1": (*_golden(WRN, 10, 1, shape=(32, 32, 3)), 77_850, 12),
    "WRN-10-1 DropBlock": (
        *_golden(WRN, 10, 1, shape=(20, 12, 3), **ALL),
        77_850,
        12,
    ),
    "ResNet-18": (
        *_golden(
            ResNet, 18, 0.25, shape=(64, 32, 3), num_classes=7, keep_prob=0.9
        ),
        718_119,
        20,
    ),
    "PreActResNet-11": (
        *_golden(PreActResNet, 11, **BOTTLENECK, **ALL),
        126_746,
        12,
    ),
    "CifarResNet-8": (*_golden(CifarResNet, 8, **ALL), 75_290, 12),
    "ResNet-50": (
        *_golden(
            ResNet, 50, 0.125, shape=(32, 32, 3), num_classes=7, keep_prob=0.9
        ),
        4_179_303,
        28,
    ),
    "WRN-10-2 dropout": (
        *_golden(WRN, 10, 2, shape=(16, 16, 1), num_classes=4, dropout=0.3),
        302_644,
        12,
    ),
    "WRN-10-1 every regularizer": (
        *_golden(WRN, 10, 1, **EVERY, **ALL),
        77_850,
        12,
    ),
    "WRN-16-1-B(3,1)": (
        *_golden(WRN, 16, 1, block="B(3,1)", keep_prob=0.9),
        89_050,
        15,
    ),
    "WRN-10-1-B(1,3)": (
        *_golden(WRN, 10, 1, block="B(1,3)", keep_prob=0.9),
        55_322,
        12,
    ),
    "WRN-10-1-B(1,3,1)": (
        *_golden(WRN, 10, 1, block="B(1,3,1)", keep_prob=0.9),
        60_922,
        12,
    ),
    "WRN-10-1-B(3,1,1)": (
        *_golden(WRN, 10, 1, block="B(3,1,1)", keep_prob=0.9),
        40_442,
        12,
    ),
    "WRN-10-1-B(3,1,3)": (
        *_golden(WRN, 10, 1, block="B(3,1,3)", keep_prob=0.9),
        83_450,
        12,
    ),
    "WRN-10-1-B(3)": (
        *_golden(WRN, 10, 1, block="B(3)", keep_prob=0.9),
        77_850,
        15,
    ),
    "WRN-13-1-B(3,3,3)": (
        *_golden(WRN, 13, 1, block="B(3,3,3)", keep_prob=0.9),
        126_458,
        12,
    ),
    "ResNet-18 zero init": (
        *_golden(ResNet, 18, 0.25, shape=(32, 32, 1), zero_init=True),
        839_944,
        20,
    ),
    "ResNet-34": (
        *_golden(ResNet, 34, 0.125, shape=(32, 48, 3), **EVERY),
        413_368,
        28,
    ),
    "WRN-50-0.25-bottleneck": (
        *_golden(ResNet, 50, 0.25, shape=(32, 32, 3), num_classes=7),
        5_881_607,
        28,
    ),
    "PreActResNet-8": (*_golden(PreActResNet, 8, **EVERY), 77_850, 12),
    "PreActResNet-20": (
        *_golden(PreActResNet, 20, **BOTTLENECK, survival_prob=0.8),
        219_482,
        15,
    ),
    "CifarResNet-8-B": (
        *_golden(
            CifarResNet, 8, shortcut="projection", shape=(20, 12, 3), **ALL
        ),
        78_042,
        12,
    ),
    "CifarResNet-14": (*_golden(CifarResNet, 14, **EVERY), 172_506, 15),
    "CifarResNet-8 12 x 20": (
        *_golden(CifarResNet, 8, shape=(12, 20, 1)),
        75_002,
        12,
    ),
    "HighwayNet-7-1": (
        *_golden(HighwayNet, 7, shape=(12, 20, 3), survival_prob=0.9, **ALL),
        121_226,
        13,
    ),
}
DEFAULT_SUITE = list(GOLDENS)[:5]
