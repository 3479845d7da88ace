"""Batches for `fit`, whose order and augmentation depend on seed and epoch."""

import contextlib

import keras
import numpy as np

from keras_dropblock.data import augmentation


class Batches(keras.utils.PyDataset):
    """Batches of normalized images and targets, for any backend.

    In training, the images are shuffled before each epoch, and each image is
    augmented independently. The last batch is left out if it is not full, as
    in the Wide ResNet code. Batch statistics and replicas therefore always
    get full batches. A batch depends only on (seed, epoch, index), so a
    resumed run gets the same batches as an uninterrupted one. Without
    training, all images come in order.

    Pass `for_keras()` to `fit`, `evaluate` and `predict`. Call `fit` with
    `shuffle=False`, and set `epoch` at the beginning of each epoch: see
    `callbacks.EpochOfData`. To resume within an epoch, set `first_batch` before
    `for_keras`. The batches before it are skipped.

    A subclass implements `read`, and has an array `labels` with the labels of
    all images in order.

    Args:
        count: number of images.
        batch_size: images in a batch, over all replicas.
        preprocessing: `Preprocessing`, whose `normalize` is applied.
        targets: function from an array of labels to the array that the loss
            takes; for classification, one-hot rows.
        training: whether to shuffle, augment and drop the last partial batch.
        augmentation: in training, dict of arguments for `augmentation.draw`.
        seed: seed of order and augmentation, int >= 0.
        share: in training, (part, parts) to read only a part of each batch.
            The whole batch is divided into `parts` equal parts, and this
            process reads the part with the index `part`, from 0.

    Raises:
        ValueError: if there are fewer training images than `batch_size`, or
            the batch cannot be divided into equal parts.
    """

    def __init__(
        self,
        count,
        *,
        batch_size,
        preprocessing,
        targets,
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
        self.batch_size = batch_size
        self.normalize = preprocessing.normalize
        self.targets = targets
        self.training = training
        self.augmentation = augmentation or {}
        if parts > 1 and self.augmentation.get("mixup"):
            raise ValueError(
                "`mixup` must be 0 with several processes: it mixes images of "
                "a whole batch, and each process reads only a part of it. "
                f"Received: {parts} processes."
            )
        self.seed = seed
        # The positions in the batch that this process reads.
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

    @contextlib.contextmanager
    def for_keras(self):
        """A context with what `fit`, `evaluate` and `predict` should read.

        On TensorFlow, this is a `tf.data.Dataset` without autotuning; Keras
        would read a `PyDataset` with autotuning. On other backends, this is
        the object itself.

        If a batch cannot be read, TensorFlow raises an error of its own, with
        the cause as text only. This context raises the cause instead, as
        other backends do.
        """
        if keras.backend.backend() != "tensorflow":
            yield self
            return
        import tensorflow as tf

        causes = []

        def read():
            try:
                for i in range(count):
                    yield self[i]
            except Exception as error:
                causes.append(error)
                raise

        # The last batch may have fewer images.
        signature = keras.tree.map_structure(
            lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), self[0]
        )
        count = len(self)
        dataset = tf.data.Dataset.from_generator(
            read, output_signature=signature
        )
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
        try:
            yield without_autotuning(dataset.prefetch(2))
        except tf.errors.OpError as error:
            if causes:
                raise causes[0] from error
            raise

    def batch(self, index):
        """Batch `index` of this epoch: (images, targets)."""
        images, labels = self.read(index)
        drawn = self.draw(index, images.shape[1:3]) if self.training else {}
        return augmentation.apply(
            drawn,
            images,
            self.targets(labels),
            pad=self.augmentation.get("pad", 0),
            normalize=self.normalize,
        )

    def draw(self, index, size):
        """Random numbers for the augmentation of batch `index` of this epoch.

        Args:
            index: index of the batch.
            size: (height, width) of the images.
        """
        # index + 1, because for NumPy [seed, epoch, 0] is the same seed as
        # [seed, epoch], which is used for the order.
        rng = np.random.default_rng([self.seed, self.epoch, index + 1])
        drawn = augmentation.draw(
            rng, self.batch_size, *size, **self.augmentation
        )
        if self.mine == slice(0, self.batch_size):
            return drawn
        return augmentation.part(drawn, self.mine)

    def read(self, index):
        """Images and labels of batch `index` of this epoch.

        Returns:
            (uint8 array (batch, height, width, channels), labels (batch, ...)).
        """
        raise NotImplementedError


class ArrayBatches(Batches):
    """Batches from arrays in memory.

    Args:
        images: uint8 array (images, height, width, channels).
        labels: array (images, ...).
        **arguments: see `Batches`.
    """

    def __init__(self, images, labels, **arguments):
        super().__init__(len(images), **arguments)
        self.images = images
        self.labels = labels
        self._order = (None, None)  # epoch, permutation

    def read(self, index):
        chosen = self.chosen(index)
        return self.images[chosen], self.labels[chosen]

    def chosen(self, index):
        """Indices of the images of batch `index` of this epoch."""
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
    """Batches like those of `ArrayBatches`, prepared on a JAX device.

    The images are copied to the device once, as bytes. For each batch, only
    its indices and random numbers are copied. One compiled function gathers,
    crops, normalizes and mixes on the device while the previous training step
    is still running. The result is equal to that of `ArrayBatches` up to the
    rounding of float32.

    Args:
        images, labels, **arguments: see `ArrayBatches`.
    """

    def __init__(self, images, labels, **arguments):
        import jax

        super().__init__(images, labels, **arguments)
        self.images = jax.device_put(images)
        self._batch = jax.jit(self._on_device)

    def batch(self, index):
        chosen = self.chosen(index)
        if isinstance(chosen, slice):
            chosen = np.arange(self.count)[chosen]
        drawn = {}
        if self.training:
            drawn = self.draw(index, self.images.shape[1:3])
        targets = self.targets(self.labels[chosen])
        return self._batch(self.images, targets, chosen, drawn)

    def _on_device(self, images, targets, chosen, drawn):
        return augmentation.apply(
            drawn,
            images[chosen],
            targets,
            pad=self.augmentation.get("pad", 0),
            normalize=self.normalize,
        )


def without_autotuning(dataset):
    """A `tf.data.Dataset` whose passes end at once.

    When a pass over an autotuned data set ends, TensorFlow (2.21) sometimes
    waits: its tuning thread checks whether it should stop just before this is
    set, and sleeps on. It wakes up after about as long as the pass took, at
    most a minute. `benchmarks/between_epochs.py` measures it.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
