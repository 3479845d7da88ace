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
    if not names:
        sys.exit(f"{weights.PACKAGED} holds no model")
    for name in names:
        use(name)


def use(name):
    model = kdb.models.load(name)
    try:
        splits = assembly.load(model.card.recipe)
    except DataError as error:
        print(f"{name} is not asked about real images: {error}")
        shape = (2, *model.card.image_shape)
        images = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    else:
        images = splits.x_test[:IMAGES]
        score(name, model, images, splits.y_test[:IMAGES])
    export(name, model, images[0])


def score(name, model, images, truth):
    card = model.card
    labels, _ = kdb.predict_images(model, images)
    right = np.mean([card.class_names[y] for y in truth] == np.array(labels))
    expected = kdb.models.published()[name]["accuracy"]
    # Four standard deviations of a share of that many images.
    slack = 4 * (expected * (1 - expected) / IMAGES) ** 0.5
    print(f"{name}: {right:.1%} of {IMAGES} right, {expected:.1%} published")
    if abs(right - expected) > slack:
        sys.exit(f"{name} is not what its card says")


def export(name, model, image):
    _, expected = kdb.predict_images(model, [image])
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "image.png")
        file.write_bytes(tf.io.encode_png(image).numpy())
        _, of_file = kdb.predict_images(model, [file])
        out = exporting.export(model, f"{folder}/out", model.card.normalise)
        served = tf.saved_model.load(str(out))
        of_export = served.serve_uint8(image[None]).numpy()
    if not np.allclose([of_file, of_export], expected, atol=1e-5):
        sys.exit(f"{name}: a file or its export gives something else")


if __name__ == "__main__":
    main()
