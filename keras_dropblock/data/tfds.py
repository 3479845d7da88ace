"""TensorFlow Datasets: any image classification set, without a long wait."""

import queue
import threading
import urllib.error
import urllib.request

import numpy as np

from keras_dropblock.data.errors import DataError
from keras_dropblock.data.images import fit_to_size


def load(name, data_dir, names, image_size):
    """Read an image classification set by name: see `sources.load`.

    Args:
        name, data_dir, names: see `open_builder`.
        image_size: see `sources.load`.

    Returns:
        (x_train, y_train, x_test, y_test, class names).
    """
    builder = open_builder(name, data_dir, names)
    features = builder.info.features
    if image_size is None and None in features["image"].shape:
        raise DataError(
            f"The images of {name!r} differ in size. Set image_size, the side "
            "in pixels to which their central squares are resized."
        )
    x_train, y_train = _read(builder, names["train"], image_size)
    x_test, y_test = _read(builder, names["test"], image_size)
    return x_train, y_train, x_test, y_test, tuple(features["label"].names)


def open_builder(name, data_dir, names):
    """The builder of an image classification set, its data on disk.

    Args:
        name: of TensorFlow Datasets.
        data_dir: its folder; None: its own default.
        names: the splits that are wanted, by "train" and "test".

    Raises:
        DataError: if the data are absent and cannot be fetched, are no images
            with labels, or have no such splits.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"`dataset` {name!r} comes from TensorFlow Datasets, which is not "
            "installed. Run: pip install 'keras-dropblock[tensorflow]', or "
            "use digits or a .npz file."
        ) from error
    tensorflow()  # before anything starts it
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        first_line = str(error).splitlines()[0]
        raise DataError(
            f"`dataset` must be digits, a .npz file or a name that TensorFlow "
            f"Datasets knows. Received: dataset={name!r} ({first_line})"
        ) from error
    if not is_prepared(builder):
        _download(builder, name)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise DataError(
            f"`dataset` {name!r} is no image classification set: it has "
            f"{', '.join(features)} in place of image and label."
        )
    for key, split in names.items():
        unknown = [
            part
            for part in split.split("+")
            if part.split("[")[0] not in builder.info.splits
        ]
        if unknown:
            raise DataError(
                f"`{key}_split` must be made of "
                f"{', '.join(builder.info.splits)}. "
                f"Received: {key}_split={split!r}."
            )
    return builder


def tensorflow():
    """TensorFlow for reading data, its hands off another backend's GPUs."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    return tf


def is_prepared(builder):
    try:
        return bool(builder.info.splits) and builder.data_path.exists()
    except (AssertionError, FileNotFoundError):
        return False


def _read(builder, split, image_size):
    tf = tensorflow()
    dataset = builder.as_dataset(split=split)

    def image_and_label(example):
        image = example["image"]
        if image_size is not None:
            image = fit_to_size(image, (image_size, image_size))
        return image, example["label"]

    dataset = dataset.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    parts = list(dataset.batch(1024).as_numpy_iterator())
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels.astype("int64")


def _download(builder, name):
    """Fetch the data, but only once its servers have answered.

    TensorFlow Datasets alone retries for minutes where there is no network.
    """
    urls = sorted(builder.url_infos)
    if urls and not any(_answers(urls)):
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"none of its servers answered: {', '.join(urls[:3])}. Prepare it "
            "there on a machine with a network (tfds build), or set data_dir "
            "to the folder that holds it, or use digits or a .npz file."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # many kinds, by data set and by TFDS version
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"its download failed: {error}"
        ) from error


def _answers(urls, seconds=5):
    """Which of the first URLs answer within some seconds, asked at once."""
    answers = queue.SimpleQueue()

    def ask(url):
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
            answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)  # an answer all the same
        except (OSError, ValueError):
            answers.put(False)

    asked = urls[:3]
    for url in asked:
        # Daemons: a name server that hangs does not hold the program.
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    results = []
    for _ in asked:
        try:
            results.append(answers.get(timeout=seconds))
        except queue.Empty:
            break
    return results
