"""Measure the images per second of training input pipelines.

Two kinds of input: 32 x 32 images that are individually padded, cropped and
flipped, as for CIFAR; and photographs of ImageNet's usual size that are
decoded, cropped and resized.
"""

from absl import app

import measurement
import processes
import shared_flags
from markdown_table import markdown

BATCH = 128
PHOTOGRAPH, SIZE = (375, 500), 224  # height and width, side


def small_images(batches):
    """Functions that each make `batches` batches of 32 x 32 images."""
    import numpy as np

    from keras_dropblock import data

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 32, 32, 3), "uint8")
    labels = rng.integers(0, 10, len(images))
    preprocessing = data.Preprocessing(
        (32, 32), *data.published_statistics("cifar10")
    )
    ours = data.ArrayBatches(
        images,
        labels,
        batch_size=BATCH,
        preprocessing=preprocessing,
        targets=np.eye(10, dtype="float32").__getitem__,
        training=True,
        augmentation={"pad": 4, "flip": True},
    )

    def make_ours():
        for i in range(batches):
            ours[i]

    peers = {
        "tf.data map": map_with_tensorflow(preprocessing.normalize),
        "Keras layers": map_with_keras(preprocessing.normalize),
    }
    return {
        "ours": make_ours,
        **{
            name: taker(images, labels, augment, batches)
            for name, augment in peers.items()
        },
    }


def map_with_tensorflow(normalize):
    """Pad, crop and flip one image, as most TensorFlow code does."""
    import tensorflow as tf

    def augment(image, label):
        pads = [(4, 4), (4, 4), (0, 0)]
        image = tf.pad(image, pads, mode="REFLECT")
        image = tf.image.random_crop(image, (32, 32, 3))
        image = tf.image.random_flip_left_right(image)
        return normalize(tf.cast(image, "float32")), tf.one_hot(label, 10)

    return augment


def map_with_keras(normalize):
    """The same with Keras's layers, which use one crop for a whole batch."""
    import keras
    import tensorflow as tf

    crop = keras.layers.RandomCrop(32, 32)
    flip = keras.layers.RandomFlip("horizontal")

    def augment(image, label):
        pads = [(4, 4), (4, 4), (0, 0)]
        image = tf.pad(tf.cast(image, "float32"), pads, mode="REFLECT")
        image = flip(crop(image, training=True), training=True)
        return normalize(image), tf.one_hot(label, 10)

    return augment


def taker(images, labels, augment, batches):
    """A function that takes `batches` batches from a `tf.data` pipeline."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.shuffle(len(images)).repeat()
    dataset = dataset.map(augment, tf.data.AUTOTUNE)
    iterator = iter(dataset.batch(BATCH).prefetch(2))

    def take():
        for _ in range(batches):
            next(iterator)

    return take


def photographs(count):
    """Functions that each decode and crop `count` photographs."""
    import numpy as np
    import tensorflow as tf

    from keras_dropblock.data.images import resized_crop_flip

    # Enlarged coarse noise gives files of about 100 kB, as in ImageNet.
    coarse = np.random.default_rng(0).integers(0, 256, (16, 94, 125, 3))
    smooth = tf.image.resize(coarse, PHOTOGRAPH, "bicubic")
    smooth = tf.cast(tf.clip_by_value(smooth, 0, 255), "uint8")
    files = tf.stack([tf.io.encode_jpeg(image) for image in smooth])

    def whole(encoded, i):
        """Decode the whole image, then crop it, as most code does."""
        image = tf.io.decode_jpeg(encoded, channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.zeros((1, 0, 4)),
            min_object_covered=0.0,
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.slice(image, begin, size)
        image = tf.image.random_flip_left_right(image)
        return tf.image.resize(image, (SIZE, SIZE), antialias=True)

    def ours(encoded, i):
        return resized_crop_flip(encoded, (SIZE, SIZE), (0, i))

    def taker(function):
        indices = tf.data.Dataset.range(2**31)
        dataset = indices.map(
            lambda i: function(files[i % len(files)], i), tf.data.AUTOTUNE
        )
        iterator = iter(dataset.prefetch(2))

        def take():
            for _ in range(count):
                next(iterator)

        return take

    return {"ours": taker(ours), "decode, then crop": taker(whole)}


def measure(seconds):
    rows = []
    for images, count, functions in (
        ("32 x 32", 20 * BATCH, small_images(20)),
        (f"JPEG {PHOTOGRAPH[1]} x {PHOTOGRAPH[0]}", 100, photographs(100)),
    ):
        times = measurement.interleave(functions, seconds)
        rows.append(
            {
                "images": images,
                "rounds": len(times["ours"]),
                "images_per_second": {
                    name: round(count / ms * 1e3)
                    for name, ms in measurement.medians(times).items()
                },
            }
        )
    return rows


def show(rows):
    table = [["images", "pipeline", "images/s", "speedup of ours"]]
    for row in rows:
        rates = row["images_per_second"]
        for name, rate in rates.items():
            ratio = f"{rates['ours'] / rate:.2f}"
            table.append([row["images"], name, f"{rate:,}", ratio])
    return markdown(table)


def main(_):
    seconds = 2 if shared_flags.QUICK.value else 20
    processes.run_on_tensorflow(
        "input_pipeline", lambda: measure(seconds), show
    )


if __name__ == "__main__":
    app.run(main)
