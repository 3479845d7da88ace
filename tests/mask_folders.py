"""A small data set of images and masks in folders, for tests."""

import numpy as np


def write(root, sizes=((40, 60), (64, 64)), counts=(8, 2, 3)):
    """Write images with a bright square on a dark ground, and their masks.

    Class 1 is the square, and class 0 the ground. A strip at the top has the
    label 11, which means that it is not labeled.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            height, width = sizes[i % len(sizes)]
            image = rng.integers(0, 60, (height, width, 3))
            mask = np.zeros((height, width), "uint8")
            top, left = rng.integers(8, height // 2, 2)
            side = height // 3
            mask[top : top + side, left : left + side] = 1
            image += 150 * mask[..., None]
            mask[:4] = 11
            for folder, array in (
                (split, image),
                (f"{split}annot", mask[..., None]),
            ):
                path = root / folder / f"{i:02}.png"
                encoded = tf.io.encode_png(array.astype("uint8"))
                path.write_bytes(encoded.numpy())
    (root / "classes.txt").write_text("ground\nsquare\n")
