"""Data sets: images with labels, in named splits."""

import numpy as np

from keras_dropblock.data.batches import ArrayBatches, DeviceBatches
from keras_dropblock.data.preprocessing import channel_statistics
from keras_dropblock.errors import DataError


class Dataset:
    """Base class of all data sets: images with labels, in named splits.

    To add a source of data, write a subclass and add it to `sources.load`.

    Attributes:
        splits: names of the splits: `"train"`, `"test"` and, if there is a
            validation split, `"validation"`.
        image_shape: (height, width, channels).
        class_names: a tuple with one name for each class, or None if the
            source has no names.
        notes: sentences for the log about files that were skipped.
        framing: how images of another size are brought to `image_shape`: see
            `Preprocessing`.
    """

    splits = ()
    image_shape = None
    class_names = None
    notes = ()
    framing = "crop"

    def size(self, split):
        """Number of images in a split."""
        raise NotImplementedError

    def labels(self, split):
        """Labels of all images of a split, in order."""
        raise NotImplementedError

    def statistics(self):
        """(mean, std) of the training images, with one number per channel."""
        raise NotImplementedError

    def batches(self, split, batch_size, preprocessing, targets, **arguments):
        """Create the batches of a split.

        Args:
            split: one of `splits`.
            others: see `batches.Batches`.

        Returns:
            `Batches`.
        """
        raise NotImplementedError


class ArrayDataset(Dataset):
    """A data set in memory.

    Args:
        arrays: dict from the name of a split to (images, labels), which are a
            uint8 array (images, height, width, channels) and an array
            (images, ...).
        class_names: see `Dataset`.
        notes: see `Dataset`.
    """

    def __init__(self, arrays, class_names=None, notes=()):
        self.arrays = arrays
        self.class_names = class_names
        self.notes = tuple(notes)

    @property
    def splits(self):
        return tuple(self.arrays)

    @property
    def image_shape(self):
        return self.arrays["train"][0].shape[1:]

    def size(self, split):
        return len(self.arrays[split][0])

    def labels(self, split):
        return self.arrays[split][1]

    def statistics(self):
        return channel_statistics(self.arrays["train"][0])

    def batches(
        self,
        split,
        batch_size,
        preprocessing,
        targets,
        *,
        on_device=False,
        **arguments,
    ):
        """See `Dataset`. `on_device` prepares batches on a JAX device."""
        kind = DeviceBatches if on_device else ArrayBatches
        return kind(
            *self.arrays[split],
            batch_size=batch_size,
            preprocessing=preprocessing,
            targets=targets,
            **arguments,
        )

    def hold_out(self, fraction):
        """The same data set, with a part of "train" moved to "validation".

        Args:
            fraction: fraction of the training images to move, in (0, 1).

        Raises:
            DataError: if a split would be empty.
        """
        images, labels = self.arrays["train"]
        held_out, kept = divided(labels, fraction, "validation_split")
        return ArrayDataset(
            {
                **self.arrays,
                "train": (images[kept], labels[kept]),
                "validation": (images[held_out], labels[held_out]),
            },
            self.class_names,
            self.notes,
        )


def divided(labels, fraction, key):
    """Divide examples into two parts, class by class and reproducibly.

    Args:
        labels: array (examples,). Integers are classes: the same fraction of
            each class, rounded, goes into the first part. With other labels,
            the examples are divided at random.
        fraction: fraction of the examples in the first part, in (0, 1).
        key: the key of the recipe, for the error message.

    Returns:
        Two increasing arrays of indices: the first part and the rest.

    Raises:
        DataError: if a part would be empty.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(0)  # the same split for every seed of a run
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    else:
        groups = [np.arange(len(labels))]
    first = [
        rng.permutation(group)[: round(fraction * len(group))]
        for group in groups
    ]
    first = np.sort(np.concatenate([np.empty(0, int), *first]))
    rest = np.setdiff1d(np.arange(len(labels)), first)
    if not len(first) or not len(rest):
        raise DataError(
            f"`{key}` must leave at least one image in each of the two splits. "
            f"Received: {key}={fraction}, of {len(labels)} images."
        )
    return first, rest
