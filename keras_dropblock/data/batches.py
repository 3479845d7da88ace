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
    begins: see `callbacks.EpochOfData`. With `first_batch` set, before `fit`,
    the batches before it are left out: the rest of an epoch.

    Args:
        images: uint8 array (images, height, width, channels).
        labels: int array (images,), from 0.
        num_classes: width of the one-hot labels that come out.
        batch_size: images in a batch, over all replicas.
        normalise: function from uint8 images to float32 ones.
        training: whether to shuffle, augment and drop the last partial batch.
        pad: in training, pixels by which each image is padded with its
            reflection before it is cropped at a random place; 0: no crop.
        flip: in training, whether to mirror half of the images.
        cutout: in training, side in pixels of a square that is blanked in
            each image; 0: none.
        mixup: in training, alpha of the Beta distribution by which pairs of
            images and labels are mixed; 0: none.
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
        num_classes,
        batch_size,
        normalise,
        *,
        training=False,
        pad=0,
        flip=False,
        cutout=0,
        mixup=0.0,
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
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.normalise = normalise
        self.training = training
        self.pad = pad
        self.flip = flip
        self.cutout = cutout
        self.mixup = mixup
        self.seed = seed
        self.epoch = 0
        self.first_batch = 0
        self._order = (None, None)  # epoch, permutation

    def __len__(self):
        whole, rest = divmod(len(self.images), self.batch_size)
        count = whole if self.training else whole + bool(rest)
        return count - self.first_batch

    def __getitem__(self, index):
        index += self.first_batch
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if not self.training:
            x = self.normalise(self.images[here])
            return x, one_hot(self.labels[here], self.num_classes)
        epoch = self.epoch
        chosen = self.order(epoch)[here]
        images = self.images[chosen]
        labels = one_hot(self.labels[chosen], self.num_classes)
        rng = np.random.default_rng([self.seed, epoch, index])
        if self.pad or self.flip:
            images = random_crop(images, rng, self.pad, self.flip)
        images = self.normalise(images)
        if self.cutout:
            images = cutout(images, rng, self.cutout)
        if self.mixup:
            images, labels = mixup(images, labels, rng, self.mixup)
        return images, labels

    def order(self, epoch):
        """The permutation of the images in this epoch."""
        known, order = self._order
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.images))
            self._order = (epoch, order)
        return order


def one_hot(labels, num_classes):
    """Labels as rows of zeros with one 1, float32."""
    return np.eye(num_classes, dtype="float32")[labels]


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


def cutout(images, rng, size):
    """Blank a square in each image, centred anywhere in it.

    The square has a fixed size; parts of it may lie outside the image.

    Args:
        images: normalised float array (images, height, width, channels). What
            is blanked becomes 0, the mean.
        rng: `numpy.random.Generator`.
        size: side of the square, in pixels.

    Returns:
        A new array of the same shape and dtype.

    Reference:
        DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section
        3.2. Its best sizes are 16 for CIFAR-10 and 8 for CIFAR-100.
    """
    count, height, width, _ = images.shape

    def inside(centre, length):
        first = centre - size // 2
        places = np.arange(length)
        return (places >= first) & (places < first + size)

    rows = inside(rng.integers(0, height, (count, 1)), height)
    columns = inside(rng.integers(0, width, (count, 1)), width)
    square = rows[:, :, None] & columns[:, None, :]
    return np.where(square[..., None], images.dtype.type(0), images)


def mixup(images, labels, rng, alpha):
    """Mix each image and its label with another of the batch.

    Args:
        images: float array (images, height, width, channels).
        labels: one-hot float array (images, classes).
        rng: `numpy.random.Generator`.
        alpha: of Beta(alpha, alpha), from which the share of the first image
            is drawn, one for the batch; > 0.

    Returns:
        (images, labels), mixed.

    Reference:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 2 and
        figure 1.
    """
    share = np.float32(rng.beta(alpha, alpha))
    other = rng.permutation(len(images))
    return (
        share * images + (1 - share) * images[other],
        share * labels + (1 - share) * labels[other],
    )
