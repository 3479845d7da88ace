"""One line for each network that must pass every conformance test."""

from keras_dropblock import models

# name, builder, image shape, trainable parameters (from
# `expected_parameters` of test_wide_resnet.py), layers of the functional model
GOLDENS = [
    ("WRN-10-1", lambda **k: models.WRN(10, 1, **k), (32, 32, 3), 77_850, 12),
    (
        "WRN-10-1 DropBlock",
        lambda **k: models.WRN(
            10, 1, keep_prob=0.8, dropblock_groups=(1, 2, 3), **k
        ),
        (20, 12, 3),
        77_850,
        12,
    ),
    (
        "WRN-10-2 dropout",
        lambda **k: models.WRN(10, 2, dropout=0.3, num_classes=4, **k),
        (16, 16, 1),
        302_644,
        12,
    ),
    (
        "WRN-16-1-B(3,1)",
        lambda **k: models.from_notation("WRN-16-1-B(3,1)", keep_prob=0.9, **k),
        (32, 32, 3),
        89_050,
        15,
    ),
    (
        "WRN-10-1-B(1,3,1)",
        lambda **k: models.from_notation(
            "WRN-10-1-B(1,3,1)", keep_prob=0.9, **k
        ),
        (32, 32, 3),
        60_922,
        12,
    ),
]
