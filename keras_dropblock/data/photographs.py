"""Photographs of any size, read from disk when needed, such as ImageNet."""

import functools

import numpy as np

from keras_dropblock.data.batches import Batches, without_autotuning
from keras_dropblock.data.dataset import Dataset
from keras_dropblock.data.images import (
    decode,
    fit_to_size,
    resized_crop_flip,
    tensorflow,
)
from keras_dropblock.data.preprocessing import IMAGENET
from keras_dropblock.data.tfds import require_labels
from keras_dropblock.errors import DataError

# Size of the shuffle buffer in training: encoded images, about 1 GB for
# ImageNet.
_SHUFFLED = 10_000


class Photographs(Dataset):
    """A data set that is too large for memory and stays on disk, encoded.

    A subclass has `class_names`, `splits`, `size`, `labels` and `encoded`.

    Args:
        image_size: (height, width) of the output images, in pixels.
        crop_fraction: side of the central crop of a test image, as a fraction
            of the image's shorter side.
    """

    def __init__(self, image_size, crop_fraction):
        self.image_shape = (*image_size, 3)
        self.crop_fraction = crop_fraction

    def statistics(self):
        """ImageNet's statistics, to save a pass over all photographs."""
        return IMAGENET

    def batches(self, split, batch_size, preprocessing, targets, **arguments):
        return PhotographBatches(
            self,
            split,
            batch_size=batch_size,
            preprocessing=preprocessing,
            targets=targets,
            **arguments,
        )

    def encoded(self, split, seed):
        """Encoded images of a split, as a `tf.data.Dataset`.

        Args:
            split: one of `splits`.
            seed: int, seed that shuffles the order of the files; None: the
                original order.

        Returns:
            Dataset of (encoded image, label), both scalar tensors.
        """
        raise NotImplementedError

    def check_files(self, split):
        """Raise `DataError` for the first file that cannot be decoded.

        Called after a batch could not be read, to name the file.
        """


class TFDSPhotographs(Photographs):
    """Photographs from TensorFlow Datasets.

    Args:
        builder: a prepared builder.
        names: dict from each split to its name or slice in TFDS.
        image_size, crop_fraction: see `Photographs`.
    """

    def __init__(self, builder, names, image_size, crop_fraction):
        super().__init__(image_size, crop_fraction)
        self.builder = builder
        self.names = names
        self.splits = tuple(names)
        self.class_names = tuple(builder.info.features["label"].names)
        for split in names:
            first = self.encoded(split, None).take(1).as_numpy_iterator()
            labels = np.array([label for _, label in first])
            require_labels(labels, split, names)

    def size(self, split):
        return self.builder.info.splits[self.names[split]].num_examples

    def labels(self, split):
        """Labels of all images in order; reads the split once."""
        labels = self.encoded(split, None).map(lambda image, label: label)
        parts = list(labels.batch(1024).as_numpy_iterator())
        return np.concatenate(parts).astype("int64")

    def encoded(self, split, seed):
        import tensorflow_datasets

        tf = tensorflow()
        dataset = self.builder.as_dataset(
            split=self.names[split],
            shuffle_files=seed is not None,
            decoders={"image": tensorflow_datasets.decode.SkipDecoding()},
            read_config=tensorflow_datasets.ReadConfig(shuffle_seed=seed),
        )
        return dataset.map(
            lambda example: (example["image"], example["label"]),
            tf.data.AUTOTUNE,
        )


class PhotographBatches(Batches):
    """Batches of photographs, decoded and cropped when they are read.

    In training, each image is a random part of a photograph, resized to a
    square and flipped with a probability of 1/2. Otherwise it is the central
    square. In each epoch, the files are shuffled, and then a buffer of 10,000
    images is shuffled; both depend on seed and epoch only. Batches should be
    read in order. For any other batch, all images before it are skipped,
    which gives the same result but is slow.

    Args:
        photographs: `Photographs`.
        split: one of its splits.
        **arguments: see `Batches`.
    """

    def __init__(self, photographs, split, **arguments):
        super().__init__(photographs.size(split), **arguments)
        self._photographs = photographs
        self._split = split
        self._next = None  # (epoch, index) that the iterator gives next
        self._iterator = None

    def read(self, index):
        if self._next != (self.epoch, index):
            self._iterator = iter(self._dataset(index).as_numpy_iterator())
        self._next = (self.epoch, index + 1)
        try:
            return next(self._iterator)
        except (tensorflow().errors.OpError, OSError) as error:
            self._photographs.check_files(self._split)
            raise DataError(
                f"An image of split {self._split} cannot be read: "
                f"{str(error).splitlines()[0]}"
            ) from error

    @functools.cached_property
    def labels(self):
        return self._photographs.labels(self._split)

    def _dataset(self, first):
        """Batches of this epoch, starting with batch `first`."""
        tf = tensorflow()
        # Two seeds of 31 bits, which depend on seed and epoch.
        seeds = np.random.default_rng([self.seed, self.epoch]).integers(
            2**31, size=2
        )
        dataset = self._encoded_images(seeds)
        dataset = dataset.enumerate().skip(first * self.batch_size)
        dataset = dataset.map(
            lambda i, example: self._decoded(i, *example, seeds[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = dataset.batch(self.batch_size, drop_remainder=self.training)
        return without_autotuning(batches.prefetch(2))

    def _encoded_images(self, seeds):
        if not self.training:
            return self._photographs.encoded(self._split, None)
        dataset = self._photographs.encoded(self._split, int(seeds[0]))
        return dataset.shuffle(
            min(self.count, _SHUFFLED),
            seed=int(seeds[1]),
            reshuffle_each_iteration=False,
        )

    def _decoded(self, i, encoded, label, seed):
        size = self._photographs.image_shape[:2]
        if self.training:
            return resized_crop_flip(encoded, size, (seed, i)), label
        return fit_to_size(
            decode(encoded), size, self._photographs.crop_fraction
        ), label
