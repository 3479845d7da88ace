"""Batches for `fit`: order and augmentation are functions of seed and epoch."""

import keras
import numpy as np

from keras_dropblock.data import augment


class Batches(keras.utils.PyDataset):
    """Batches of normalised images and one-hot labels, for any backend.

    In training the images are shuffled anew each epoch, the last partial
    batch is left out (as in the Wide ResNet code, and so that batch
    statistics and replicas see full batches) and each image is augmented by
    itself. A batch is a function of (seed, epoch, index) alone: a resumed run
    sees what the uninterrupted one would have seen. Otherwise the images come
    in order, all of them.

    `fit` must be called with `shuffle=False`, and `epoch` set as each epoch
    begins: see `callbacks.EpochOfData`.

    A subclass says where the images are: `read`, and the array `labels` of
    all images in order.

    Args:
        count: number of images.
        num_classes: width of the one-hot labels that come out.
        batch_size: images in a batch, over all replicas.
        normalise: function from uint8 images to float32 ones.
        training: whether to shuffle, augment and drop the last partial batch.
        cutout: in training, side in pixels of a square that is blanked in
            each image; 0: none.
        mixup: in training, alpha of the Beta distribution by which pairs of
            images and labels are mixed; 0: none.
        seed: of order and augmentation, int >= 0.

    Raises:
        ValueError: if there is less than one batch to train on.
    """

    def __init__(
        self,
        count,
        num_classes,
        batch_size,
        normalise,
        *,
        training=False,
        cutout=0,
        mixup=0.0,
        seed=0,
    ):
        super().__init__()
        if training and count < batch_size:
            raise ValueError(
                "`batch_size` must not exceed the number of training images, "
                f"{count}. Received: batch_size={batch_size}."
            )
        self.count = count
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.normalise = normalise
        self.training = training
        self.cutout = cutout
        self.mixup = mixup
        self.seed = seed
        self.epoch = 0

    def __len__(self):
        whole, rest = divmod(self.count, self.batch_size)
        return whole if self.training else whole + bool(rest)

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, self.epoch, index])
        images, labels = self.read(index, rng)
        images = self.normalise(images)
        labels = augment.one_hot(labels, self.num_classes)
        if self.training and self.cutout:
            images = augment.cutout(images, rng, self.cutout)
        if self.training and self.mixup:
            images, labels = augment.mixup(images, labels, rng, self.mixup)
        return images, labels

    def read(self, index, rng):
        """The images of batch `index` of this epoch, cropped, and labels.

        Returns:
            (uint8 array (batch, height, width, channels), int array (batch,)).
        """
        raise NotImplementedError


class ArrayBatches(Batches):
    """Batches from arrays in memory.

    Args:
        images: uint8 array (images, height, width, channels).
        labels: int array (images,), from 0.
        num_classes, batch_size, normalise: see `Batches`.
        pad: in training, pixels by which each image is padded with its
            reflection before it is cropped at a random place; 0: no crop.
        flip: in training, whether to mirror half of the images.
        **arguments: see `Batches`.

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
        pad=0,
        flip=False,
        **arguments,
    ):
        super().__init__(
            len(images), num_classes, batch_size, normalise, **arguments
        )
        self.images = images
        self.labels = labels
        self.pad = pad
        self.flip = flip
        self._order = (None, None)  # epoch, permutation

    def read(self, index, rng):
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if not self.training:
            return self.images[here], self.labels[here]
        chosen = self.order(self.epoch)[here]
        images = self.images[chosen]
        if self.pad or self.flip:
            images = augment.random_crop(images, rng, self.pad, self.flip)
        return images, self.labels[chosen]

    def order(self, epoch):
        """The permutation of the images in this epoch."""
        known, order = self._order
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.images))
            self._order = (epoch, order)
        return order
