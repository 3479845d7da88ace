"""Batches for `fit`: order and augmentation are functions of seed and epoch."""

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """Batches of normalised images from arrays in memory, for any backend.

    In training the images are shuffled anew each epoch, the last partial
    batch is left out (as in the Wide ResNet code, and so that batch
    statistics and replicas see full batches) and each image is augmented by
    itself. A batch is a function of (seed, epoch, index) alone: a resumed run
    sees what the uninterrupted one would have seen. Otherwise the images come
    in order, all of them.

    `fit` must be called with `shuffle=False`, and `epoch` set as each epoch
    begins: see `callbacks.EpochOfData`.

    Args:
        images: uint8 array (images, height, width, channels).
        labels: int array (images,).
        batch_size: images in a batch, over all replicas.
        normalise: function from uint8 images to float32 ones.
        training: whether to shuffle, augment and drop the last partial batch.
        pad: in training, pixels by which each image is padded with its
            reflection before it is cropped at a random place; 0: no crop.
        flip: in training, whether to mirror half of the images.
        seed: of order and augmentation, int >= 0.

    Raises:
        ValueError: if there is less than one batch to train on.

    Reference:
        Zagoruyko and Komodakis 2016, section 3: flips and crops from images
        padded by 4 pixels with reflection.
    """

    def __init__(
        self,
        images,
        labels,
        batch_size,
        normalise,
        *,
        training=False,
        pad=0,
        flip=False,
        seed=0,
    ):
        super().__init__()
        if training and len(images) < batch_size:
            raise ValueError(
                "`batch_size` must not exceed the number of training images, "
                f"{len(images)}. Received: batch_size={batch_size}."
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.normalise = normalise
        self.training = training
        self.pad = pad
        self.flip = flip
        self.seed = seed
        self.epoch = 0
        self._order = (None, None)  # epoch, permutation

    def __len__(self):
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole if self.training else whole + bool(rest)

    def __getitem__(self, index):
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if not self.training:
            return self.normalise(self.images[here]), self.labels[here]
        epoch = self.epoch
        chosen = self.order(epoch)[here]
        images = self.images[chosen]
        if self.pad or self.flip:
            rng = np.random.default_rng([self.seed, epoch, index])
            images = random_crop(images, rng, self.pad, self.flip)
        return self.normalise(images), self.labels[chosen]

    def order(self, epoch):
        """The permutation of the images in this epoch."""
        known, order = self._order
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.images))
            self._order = (epoch, order)
        return order


def random_crop(images, rng, pad, flip):
    """Crop each image at its own place from its reflection-padded self.

    Args:
        images: array (images, height, width, channels).
        rng: `numpy.random.Generator`.
        pad: pixels added on every side; the edge is not repeated.
        flip: whether to mirror half of the images left to right.

    Returns:
        Array of the same shape and dtype.
    """
    count, height, width, _ = images.shape
    padded = np.pad(
        images, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode="reflect"
    )
    top, left = rng.integers(0, 2 * pad + 1, size=(2, count, 1))
    rows = top + np.arange(height)
    columns = left + np.arange(width)
    if flip:
        mirrored = rng.random((count, 1)) < 0.5
        columns = np.where(mirrored, columns[:, ::-1], columns)
    return padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
