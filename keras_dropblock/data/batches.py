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
    begins: see `callbacks.EpochOfData`. With `first_batch` set, before `fit`,
    the batches before it are left out: the rest of an epoch.

    A subclass says where the images are: `read`, and the array `labels` of
    all images in order.

    Args:
        count: number of images.
        num_classes: width of the one-hot labels that come out.
        batch_size: images in a batch, over all replicas.
        normalise: function from uint8 images to float32 ones.
        training: whether to shuffle, augment and drop the last partial batch.
        augmentation: in training, arguments of `augment.draw`, by name.
        seed: of order and augmentation, int >= 0.
        share: in training, (part, parts): each batch is the part, from 0, of
            so many equal ones of the batch that `share=(0, 1)` has. Only its
            images are read.

    Raises:
        ValueError: if there is less than one batch to train on, or the batch
            cannot be shared.
    """

    def __init__(
        self,
        count,
        num_classes,
        batch_size,
        normalise,
        *,
        training=False,
        augmentation=None,
        seed=0,
        share=(0, 1),
    ):
        super().__init__()
        if training and count < batch_size:
            raise ValueError(
                "`batch_size` must not exceed the number of training images, "
                f"{count}. Received: batch_size={batch_size}."
            )
        part, parts = share
        if batch_size % parts:
            raise ValueError(
                f"`batch_size` must be a multiple of {parts}, the number of "
                f"processes. Received: batch_size={batch_size}."
            )
        self.count = count
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.normalise = normalise
        self.training = training
        self.augmentation = augmentation or {}
        if parts > 1 and self.augmentation.get("mixup"):
            raise ValueError(
                "`mixup` mixes images of a whole batch, of which each process "
                f"reads a part. Received: {parts} processes."
            )
        self.seed = seed
        # Of the places 0 to batch_size - 1, those that this process trains on.
        size = batch_size // parts
        self.mine = slice(part * size, (part + 1) * size)
        self.epoch = 0
        self.first_batch = 0

    def __len__(self):
        whole, rest = divmod(self.count, self.batch_size)
        count = whole if self.training else whole + bool(rest)
        return count - self.first_batch

    def __getitem__(self, index):
        return self.batch(self.first_batch + index)

    def batch(self, index):
        """Batch `index` of this epoch: (images, one-hot labels)."""
        images, labels = self.read(index)
        drawn = self.draw(index, images.shape[1:3]) if self.training else {}
        return augment.apply(
            drawn,
            images,
            np.eye(self.num_classes, dtype="float32")[labels],
            pad=self.augmentation.get("pad", 0),
            normalise=self.normalise,
        )

    def draw(self, index, size):
        """What is random about batch `index` of this epoch.

        Args:
            index: of the batch.
            size: (height, width) of the images.
        """
        # From 1, since NumPy takes [seed, epoch, 0] for [seed, epoch], which
        # is the seed of the order.
        rng = np.random.default_rng([self.seed, self.epoch, index + 1])
        drawn = augment.draw(rng, self.batch_size, *size, **self.augmentation)
        if self.mine == slice(0, self.batch_size):
            return drawn
        return augment.part(drawn, self.mine)

    def read(self, index):
        """The images of batch `index` of this epoch, and their labels.

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
        **arguments: see `Batches`.
    """

    def __init__(
        self, images, labels, num_classes, batch_size, normalise, **arguments
    ):
        super().__init__(
            len(images), num_classes, batch_size, normalise, **arguments
        )
        self.images = images
        self.labels = labels
        self._order = (None, None)  # epoch, permutation

    def read(self, index):
        chosen = self.chosen(index)
        return self.images[chosen], self.labels[chosen]

    def chosen(self, index):
        """Which images are in batch `index` of this epoch."""
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if not self.training:
            return here
        return self.order(self.epoch)[here][self.mine]

    def order(self, epoch):
        """The permutation of the images in this epoch."""
        known, order = self._order
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.images))
            self._order = (epoch, order)
        return order


class DeviceBatches(ArrayBatches):
    """The same batches, from images that lie on a JAX device.

    The images go to the device once, as bytes; for each batch its indices and
    random numbers follow, and one compiled function gathers, crops,
    normalises and mixes there, while the step before it still runs. Equal to
    `ArrayBatches` but for the rounding of float32.

    Args:
        As of `ArrayBatches`.
    """

    def __init__(self, images, *arguments, **keywords):
        import jax

        super().__init__(images, *arguments, **keywords)
        self.images = jax.device_put(images)
        self._batch = jax.jit(self._on_device)

    def batch(self, index):
        chosen = self.chosen(index)
        if isinstance(chosen, slice):
            chosen = np.arange(self.count)[chosen]
        drawn = {}
        if self.training:
            drawn = self.draw(index, self.images.shape[1:3])
        return self._batch(self.images, self.labels[chosen], chosen, drawn)

    def _on_device(self, images, labels, chosen, drawn):
        import jax

        return augment.apply(
            drawn,
            images[chosen],
            jax.nn.one_hot(labels, self.num_classes),
            pad=self.augmentation.get("pad", 0),
            normalise=self.normalise,
        )
