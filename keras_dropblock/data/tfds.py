"""Image classification data sets of TensorFlow Datasets (TFDS)."""

import queue
import threading
import urllib.error
import urllib.request

import numpy as np

from keras_dropblock.data.dataset import ArrayDataset
from keras_dropblock.data.images import fit_to_size, tensorflow
from keras_dropblock.data.options import SOURCES
from keras_dropblock.errors import DataError


def load(name, data_dir, names, image_size):
    """Read an image classification data set into memory: see `sources.load`.

    Args:
        name, data_dir, names: see `open_builder`.
        image_size: `frame` of `data.Options`.

    Returns:
        `ArrayDataset`.
    """
    builder = open_builder(name, data_dir, names)
    features = builder.info.features
    if image_size is None and None in features["image"].shape:
        raise DataError(
            f"The images of {name!r} differ in size. Set image_size: the "
            "central square of each image is then resized to that side in "
            "pixels."
        )
    arrays = {
        split: _read(builder, part, image_size) for split, part in names.items()
    }
    for split, (_, labels) in arrays.items():
        require_labels(labels, split, names)
    return ArrayDataset(arrays, tuple(features["label"].names))


def open_builder(name, data_dir, names, needed=("image", "label")):
    """Open a data set of images; download it if necessary.

    Args:
        name: name of the data set in TensorFlow Datasets.
        data_dir: folder of TensorFlow Datasets; None: its default.
        names: dict from "train", "test" and "validation" to the name or slice
            of that split in TFDS.
        needed: features that it must have.

    Returns:
        A prepared TFDS builder.

    Raises:
        DataError: if the data are missing and cannot be downloaded, do not
            have the features, or do not have these splits.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"`dataset` {name!r} comes from TensorFlow Datasets, which is not "
            "installed. Run: pip install 'keras-dropblock[tensorflow]', or "
            "use digits or a .npz file."
        ) from error
    tensorflow()  # hides the GPUs before TFDS starts TensorFlow
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        first_line = str(error).splitlines()[0]
        raise DataError(
            f"`dataset` must be {SOURCES}. "
            f"Received: dataset={name!r} ({first_line})"
        ) from error
    if not is_prepared(builder):
        _download(builder, name)
    features = builder.info.features
    if not {*needed} <= set(features):
        raise DataError(
            f"`dataset` {name!r} must have the features "
            f"{' and '.join(needed)} for this task. It has the features "
            f"{', '.join(features)}."
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
    check_held_out(names, builder.info.splits)
    return builder


def require_labels(labels, key, names):
    """Raise DataError if images have the label -1, that is, none.

    Args:
        labels: array (images,) of the split `key`, or of its first images.
        key, names: see `open_builder`.
    """
    if (labels < 0).any():
        raise DataError(
            f"The images of `{key}_split` must have labels. Some test splits "
            "of TensorFlow Datasets have none, only -1. Received: "
            f"{key}_split={names[key]!r}. Did you mean {key}_split = "
            "'validation'?"
        )


def check_held_out(names, splits):
    """Raise DataError if validation images are trained on or tested."""
    held_out = _ranges("validation", names, splits)
    for key in ("train", "test"):
        for name, first, end in _ranges(key, names, splits):
            if any(
                name == other and first < other_end and other_first < end
                for other, other_first, other_end in held_out
            ):
                raise DataError(
                    f"`validation_split` must not overlap `{key}_split`. "
                    f"Received: {key}_split={names[key]!r}, validation_split="
                    f"{names['validation']!r}. Did you mean train_split = "
                    "'train[:90%]' and validation_split = 'train[90%:]'?"
                )


def _ranges(key, names, splits):
    """The images of a split: (name in TFDS, first, end) of each part."""
    if key not in names:
        return []
    import tensorflow_datasets as tfds

    try:
        parts = tfds.core.ReadInstruction.from_spec(names[key]).to_absolute(
            splits
        )
    except ValueError as error:
        raise DataError(
            f"`{key}_split` must be made of slices such as 'train[:90%]'. "
            f"Received: {key}_split={names[key]!r} "
            f"({str(error).splitlines()[0]})"
        ) from error
    return [
        (
            part.splitname,
            part.from_ or 0,
            splits[part.splitname].num_examples if part.to is None else part.to,
        )
        for part in parts
    ]


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
            image = fit_to_size(image, image_size)
        return image, example["label"]

    dataset = dataset.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    parts = list(dataset.batch(1024).as_numpy_iterator())
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels.astype("int64")


def _download(builder, name):
    """Download the data if one of its servers answers.

    Without this check, TensorFlow Datasets retries for minutes if there is no
    network.
    """
    urls = sorted(builder.url_infos)
    if urls and not any(_answers(urls)):
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"none of its servers answered: {', '.join(urls[:3])}. Prepare it "
            "there with a network connection (tfds build), or set data_dir to "
            "the folder that contains it, or use digits or a .npz file."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # the type depends on the data set and on TFDS
        raise DataError(
            f"`dataset` {name!r} is not prepared in {builder.data_path}, and "
            f"its download failed: {error}"
        ) from error


def _answers(urls, seconds=5):
    """Ask the first three URLs in parallel whether they answer in time.

    Returns:
        A list of booleans, which may be shorter if a server does not react.
    """
    answers = queue.SimpleQueue()

    def ask(url):
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
            answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)  # an HTTP error is also an answer
        except (OSError, ValueError):
            answers.put(False)

    asked = urls[:3]
    for url in asked:
        # Daemon threads, so that a hanging name server cannot keep the
        # program from exiting.
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    results = []
    for _ in asked:
        try:
            results.append(answers.get(timeout=seconds))
        except queue.Empty:
            break
    return results
