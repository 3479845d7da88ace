"""Uses what a wheel carries, where it alone is installed: see .ci/run.

Every model inside the package is loaded, told to label real test images, as
arrays and as a file, and exported; the SavedModel must give the same.
"""

import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf

import keras_dropblock as kdb
from keras_dropblock import assembly, exporting
from keras_dropblock.data import DataError
from keras_dropblock.models import weights

IMAGES = 500


def main():
    names = [
        path.name.removesuffix(".weights.h5")
        for path in weights.PACKAGED.glob("*.weights.h5")
    ]
    print(f"{weights.PACKAGED.parents[1]} carries {names or 'no model'}")
    for name in names:
        use(name)


def use(name):
    model = kdb.models.load(name)
    card = model.card
    try:
        splits = assembly.load(card.recipe)
    except DataError as error:
        print(f"{name} skipped: {error}")
        return
    images, truth = splits.x_test[:IMAGES], splits.y_test[:IMAGES]
    labels, found = kdb.predict_images(model, images)
    right = np.mean([card.class_names[y] for y in truth] == np.array(labels))
    expected = kdb.models.published()[name]["accuracy"]
    # Four standard deviations of a share of that many images.
    slack = 4 * (expected * (1 - expected) / IMAGES) ** 0.5
    print(f"{name}: {right:.1%} of {IMAGES} right, {expected:.1%} published")
    if abs(right - expected) > slack:
        sys.exit(f"{name} is not what its card says")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "image.png")
        file.write_bytes(tf.io.encode_png(images[0]).numpy())
        _, of_file = kdb.predict_images(model, [file])
        out = exporting.export(model, f"{folder}/out", card.normalise)
        served = tf.saved_model.load(str(out))
        of_export = served.serve_uint8(images[:1]).numpy()
    if not np.allclose([of_file, of_export], found[:1], atol=1e-5):
        sys.exit(f"{name}: a file or its export gives something else")


if __name__ == "__main__":
    main()
