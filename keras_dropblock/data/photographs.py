"""Photographs of all sizes, read from disk as they are needed: ImageNet."""

import dataclasses
import functools

import numpy as np

from keras_dropblock.data import tfds
from keras_dropblock.data.batches import Batches
from keras_dropblock.data.images import (
    decode,
    fit_to_size,
    resized_crop_flip,
)
from keras_dropblock.data.normalise import IMAGENET

# Encoded images that are mixed in training, after the order of their files:
# about 1 GB of ImageNet.
_SHUFFLED = 10_000


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Training and test images of a set too large for memory.

    Has the methods of `sources.Splits`; the images stay on disk.

    Attributes:
        builder: a prepared builder of TensorFlow Datasets.
        names: of the training and the test split, by "train" and "test".
        image_size: side of the squares that come out, in pixels.
        central_part: share of a test image's shorter side that is seen.
    """

    builder: object
    names: dict[str, str]
    image_size: int
    central_part: float

    @property
    def image_shape(self):
        return (self.image_size, self.image_size, 3)

    @property
    def class_names(self):
        return tuple(self.builder.info.features["label"].names)

    def size(self, split):
        return self.builder.info.splits[self.names[split]].num_examples

    def normalisation(self):
        """ImageNet's: a pass over all photographs would tell little else."""
        return IMAGENET

    def batches(self, split, batch_size, normalise, **arguments):
        """`PhotographBatches` of a split, "train" or "test"."""
        return PhotographBatches(
            self, split, batch_size, normalise, **arguments
        )


def stream(
    dataset, *, data_dir, train_split, test_split, image_size, central_part
):
    """Open a set of photographs without reading it.

    Args:
        dataset: name of an image classification set of TensorFlow Datasets,
            such as `"imagenet2012"`, whose images are encoded on disk.
        data_dir: folder of TensorFlow Datasets; None: its own default.
        train_split, test_split: ImageNet's are train and validation.
        image_size: side of the squares that come out, in pixels.
        central_part: see `Photographs`.

    Returns:
        `Photographs`.

    Raises:
        DataError: as `sources.load`.
    """
    names = {"train": train_split, "test": test_split}
    builder = tfds.open_builder(dataset, data_dir, names)
    return Photographs(builder, names, image_size, central_part)


class PhotographBatches(Batches):
    """Batches of photographs, decoded and cropped as they are read.

    In training each is a random part resized to a square, half of them
    mirrored; in the test the central square. The order of an epoch is that of
    its files, shuffled, and then of a buffer of 10,000 images, both by seed
    and epoch. A batch out of turn is found by skipping: exact, but slow if
    it is not the first that is asked for.

    Args:
        photographs: `Photographs`.
        split: "train" or "test".
        batch_size, normalise: see `Batches`.
        **arguments: see `Batches`.
    """

    def __init__(self, photographs, split, batch_size, normalise, **arguments):
        super().__init__(
            photographs.size(split),
            len(photographs.class_names),
            batch_size,
            normalise,
            **arguments,
        )
        self._photographs = photographs
        self._split = photographs.names[split]
        self._next = None  # (epoch, index) that the iterator gives next
        self._iterator = None

    def read(self, index):
        if self._next != (self.epoch, index):
            self._iterator = iter(self._dataset(index).as_numpy_iterator())
        self._next = (self.epoch, index + 1)
        return next(self._iterator)

    @functools.cached_property
    def labels(self):
        """Labels of all images in order; reads the split once."""
        tf = tfds.tensorflow()
        dataset = self._photographs.builder.as_dataset(
            split=self._split, decoders=_encoded()
        ).map(lambda example: example["label"], tf.data.AUTOTUNE)
        parts = list(dataset.batch(1024).as_numpy_iterator())
        return np.concatenate(parts).astype("int64")

    def _dataset(self, first):
        """Batches of this epoch from the batch `first` on."""
        tf = tfds.tensorflow()
        # Of seed and epoch, two numbers of 31 bits.
        seeds = np.random.default_rng([self.seed, self.epoch]).integers(
            2**31, size=2
        )
        dataset = self._encoded_images(seeds)
        dataset = dataset.enumerate().skip(first * self.batch_size)
        dataset = dataset.map(
            lambda i, example: self._decoded(i, example, seeds[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = dataset.batch(self.batch_size, drop_remainder=self.training)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _encoded_images(self, seeds):
        import tensorflow_datasets

        dataset = self._photographs.builder.as_dataset(
            split=self._split,
            shuffle_files=self.training,
            decoders=_encoded(),
            read_config=tensorflow_datasets.ReadConfig(
                shuffle_seed=int(seeds[0]) if self.training else None
            ),
        )
        if not self.training:
            return dataset
        return dataset.shuffle(
            min(self.count, _SHUFFLED),
            seed=int(seeds[1]),
            reshuffle_each_iteration=False,
        )

    def _decoded(self, i, example, seed):
        size = self._photographs.image_shape[:2]
        encoded, label = example["image"], example["label"]
        if self.training:
            return resized_crop_flip(encoded, size, (seed, i)), label
        return fit_to_size(
            decode(encoded), size, self._photographs.central_part
        ), label


def _encoded():
    import tensorflow_datasets

    return {"image": tensorflow_datasets.decode.SkipDecoding()}
