"""Train a deep highway network on digits, and draw its transform gates.

    python training/highway_gates.py

It takes a minute on two CPU cores and writes docs/highway_gates.png: the
gates of each block before and after training, by depth. The optimizer is
Adam, because SGD with momentum did not learn in so few epochs.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402

import keras_dropblock as kdb  # noqa: E402
from keras_dropblock.analysis import gates, measure_gates  # noqa: E402

DEPTH, EPOCHS = 19, 10


def normalized(images, dataset):
    """Half the resolution, which is still twice that of the data."""
    mean, std = dataset.statistics()
    return ((images.astype("float32") - mean) / std)[:, ::2, ::2]


def main():
    keras.utils.set_random_seed(0)
    dataset = kdb.data.load("digits")
    (x, y), (x_test, y_test) = (
        dataset.arrays[split] for split in ("train", "test")
    )
    x, x_test = normalized(x, dataset), normalized(x_test, dataset)
    model = kdb.models.HighwayNet(DEPTH, input_shape=x.shape[1:])
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = measure_gates(model, x_test)
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=2)
    print("test accuracy:", model.evaluate(x_test, y_test, verbose=0)[1])
    after = measure_gates(model, x_test)
    for name, gate in after.items():
        print(f"{name}: {before[name].mean():.3f} to {gate.mean():.3f}")
    gates.draw(before, after, ROOT / "docs" / "highway_gates.png")


if __name__ == "__main__":
    main()
