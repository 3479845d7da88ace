"""Test the models in an installed wheel, without the checkout: see .ci/run.

Every model in the package is loaded, classifies real test images from arrays
and from a file, and is exported. The SavedModel must give the same answers.
"""

import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf

import keras_dropblock as kdb
from keras_dropblock.errors import DataError
from keras_dropblock.hub import weights

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
    model = kdb.load(name)
    try:
        dataset = kdb.data.load(model.card.dataset)
    except DataError as error:
        print(f"{name} is not asked about real images: {error}")
        shape = (2, *model.card.image_shape)
        images = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    else:
        images, labels = dataset.arrays["test"]
        images = images[:IMAGES]
        score(name, model, images, labels[:IMAGES])
    export(name, model, images[0])


def score(name, model, images, truth):
    names = model.card.class_names
    found = [best for ((best, _),) in kdb.predict(model, images, top=1)]
    right = np.mean(np.array(names)[truth] == np.array(found))
    expected = kdb.list_models()[name]["accuracy"]
    # Four standard deviations of an accuracy on that many images.
    slack = 4 * (expected * (1 - expected) / IMAGES) ** 0.5
    print(f"{name}: {right:.1%} of {IMAGES} right, {expected:.1%} published")
    if abs(right - expected) > slack:
        sys.exit(f"{name} is not what its card says")


def probabilities(model, image):
    """The probabilities in the order of the classes."""
    names = model.card.class_names
    ((*row,),) = kdb.predict(model, [image], top=len(names))
    return [dict(row)[name] for name in names]


def export(name, model, image):
    expected = probabilities(model, image)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "image.png")
        file.write_bytes(tf.io.encode_png(image).numpy())
        of_file = probabilities(model, file)
        out = kdb.export(model, f"{folder}/out")
        served = tf.saved_model.load(str(out))
        (of_export,) = served.serve_uint8(image[None]).numpy()
    if not np.allclose([of_file, of_export], expected, atol=1e-5):
        sys.exit(f"{name}: a file or its export gives something else")


if __name__ == "__main__":
    main()
