"""Data sets of images with boxes or masks, read from disk when needed."""

import concurrent.futures
import dataclasses
import os
import typing

import numpy as np

from keras_dropblock.data import framing
from keras_dropblock.data.dataset import ArrayDataset, divided
from keras_dropblock.data.geometry import NO_BOX
from keras_dropblock.data.images import tensorflow
from keras_dropblock.data.preprocessing import IMAGENET
from keras_dropblock.errors import DataError

_KEPT = 2**32  # bytes of decoded images and masks that stay in memory


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of one image, in the image's own pixels.

    Attributes:
        size: (height, width) of the image.
        boxes: float32 array (n, 4), y and x of the corners, inside the image.
        classes: int array (n,), index of the class.
        crowd: bool array (n,): boxes around several objects. They are not
            trained on, and detections inside them are not errors.
        area: float array (n,), area of the object in pixels. COCO divides
            objects into small, medium and large ones by it.
        instances: function that reads a uint8 array (height, width), i + 1 on
            object i and 0 elsewhere; None: only the boxes are known.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    instances: typing.Callable | None = None


class Rows:
    """Arrays of equal shape, one for each image, which are read when indexed.

    Arrays that have been read stay in memory, up to 4 GiB.

    Args:
        readers: for each image, a function that reads its array.
        shape: shape of each array.
    """

    def __init__(self, readers, shape):
        self.readers = list(readers)
        self.row_shape = tuple(shape)
        self._known = {}
        self._room = _KEPT // max(int(np.prod(shape)), 1)

    def __len__(self):
        return len(self.readers)

    @property
    def shape(self):
        return (len(self), *self.row_shape)

    def __getitem__(self, chosen):
        """Read the rows of a slice or an array of indices: (n, *shape)."""
        chosen = np.arange(len(self))[chosen]
        missing = [i for i in np.unique(chosen) if i not in self._known]
        fresh = {}
        if missing:
            with concurrent.futures.ThreadPoolExecutor(threads()) as pool:
                read = pool.map(lambda i: self.readers[i](), missing)
                fresh = dict(zip(missing, read, strict=True))
        for i, row in fresh.items():
            if len(self._known) < self._room:
                self._known[i] = row
        rows = [fresh[i] if i in fresh else self._known[i] for i in chosen]
        return np.stack(rows) if rows else np.empty((0, *self.row_shape))

    def some(self, chosen):
        """The rows with these indices. They are not read yet."""
        return Rows([self.readers[i] for i in chosen], self.row_shape)


def threads():
    """Number of threads that read files."""
    return min(8, os.cpu_count() or 1)


class BoxRows:
    """Boxes of images in a frame, padded to the same number.

    Args:
        objects: list of `Objects`, one for each image.
        frame: (height, width) that images are scaled into.
        room: number of boxes of a row; None: the largest number in an image.
    """

    def __init__(self, objects, frame, room=None):
        self.objects = list(objects)
        self.frame = frame
        counts = [int((~o.crowd).sum()) for o in self.objects]
        self.room = room or max([1, *counts])
        self.boxes = np.zeros((len(self), self.room, 4), "float32")
        self.labels = np.full((len(self), self.room), NO_BOX, "int32")
        for i, found in enumerate(self.objects):
            scale = np.tile(framing.scales(found.size, frame), 2)
            n = counts[i]
            self.boxes[i, :n] = found.boxes[~found.crowd] * scale
            self.labels[i, :n] = found.classes[~found.crowd]

    def __len__(self):
        return len(self.objects)

    def __getitem__(self, chosen):
        """Dict of `boxes` (n, room, 4) and `labels` (n, room), -1 for none."""
        return {"boxes": self.boxes[chosen], "labels": self.labels[chosen]}

    def some(self, chosen):
        """The rows with these indices."""
        return BoxRows([self.objects[i] for i in chosen], self.frame, self.room)

    def masks(self, label):
        """Where the objects of a class are.

        Args:
            label: index of the class.

        Returns:
            bool array (images, *frame): True on the objects of the class, or
            in their boxes if only boxes are known.
        """
        masks = np.zeros((len(self), *self.frame), bool)
        for mask, found, boxes in zip(
            masks, self.objects, self.boxes, strict=True
        ):
            classes = found.classes[~found.crowd]
            if found.instances is not None:
                ids = 1 + np.flatnonzero(found.classes == label)
                instances = tensorflow().constant(found.instances()[..., None])
                framed = framing.frame_image(
                    instances, self.frame, (0,), "nearest"
                )
                mask[:] = np.isin(framed.numpy()[..., 0], ids)
                continue
            for box in boxes[: len(classes)][classes == label].round():
                top, left, bottom, right = box.astype(int)
                mask[top:bottom, left:right] = True
        return masks


class AnnotatedDataset(ArrayDataset):
    """Images of any size with boxes or masks.

    Whole images are scaled into `image_shape`, as `framing` says.

    Args:
        arrays: dict from the name of a split to (`Rows` of images, `BoxRows`
            or `Rows` of masks).
        class_names, notes: see `Dataset`.
    """

    framing = "pad"

    @property
    def image_shape(self):
        return self.arrays["train"][0].row_shape

    def statistics(self):
        """ImageNet's statistics, to save a pass over all photographs."""
        return IMAGENET

    def batches(self, split, *arguments, on_device=False, **options):
        if on_device:
            raise DataError(
                "`data_on_device` must be false for images with boxes or "
                "masks, which are read from disk. Received: "
                "data_on_device=True."
            )
        return super().batches(split, *arguments, **options)

    def spaced(self, split, count):
        """Up to `count` evenly spaced images of a split, unread.

        Returns:
            (`Rows` of images, `BoxRows` or `Rows` of masks).
        """
        rows, labels = self.arrays[split]
        chosen = np.arange(min(count, len(rows))) * max(len(rows) // count, 1)
        return rows.some(chosen), labels.some(chosen)

    def hold_out(self, fraction):
        rows, labels = self.arrays["train"]
        # Divided at random, because an image has no class of its own.
        held_out, kept = divided(
            np.zeros((len(rows), 2)), fraction, "validation_split"
        )
        arrays = {
            **self.arrays,
            "train": (rows.some(kept), labels.some(kept)),
            "validation": (rows.some(held_out), labels.some(held_out)),
        }
        for split in ("train", "validation"):
            if isinstance(labels, BoxRows):
                check_objects(
                    arrays[split][1],
                    "validation_split",
                    f"the {split} split",
                    f"Received: validation_split={fraction}.",
                )
        return AnnotatedDataset(arrays, self.class_names, self.notes)


def cleaned(boxes, size):
    """Clip boxes to their image, and find those without area.

    Args:
        boxes: float array (n, 4), y and x of the corners, in pixels.
        size: (height, width) of the image.

    Returns:
        (clipped boxes, bool array of the boxes with an area, number of boxes
        that were clipped). Clipping by less than half a pixel is rounding,
        and is not counted.
    """
    boxes = np.asarray(boxes, "float32").reshape(-1, 4)
    limit = np.float32([*size, *size])
    clipped = np.clip(boxes, 0, limit)
    kept = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    changed = (abs(clipped - boxes) > 0.5).any(axis=1)
    return clipped, kept, int((changed & kept).sum())


def check_objects(labels, key, part, slip=None):
    """Raise DataError if a split has no object, which leaves AP undefined.

    Args:
        labels: `BoxRows` of the split.
        key: the key of the recipe, for the error message.
        part: name of the split in its source.
        slip: sentence about the likely reason. None: that the key leaves out
            all objects.
    """
    slip = slip or f"Does `{key}` leave out all objects?"
    if not (labels.labels != NO_BOX).any():
        raise DataError(
            f"`{key}` must give each split at least one object that is not a "
            "crowd, to train on or to compute AP with. The "
            f"{len(labels):,} images of {part} have none. {slip}"
        )


def repair_notes(clipped, empty, without, images):
    """Sentences for the log about repairs of boxes.

    Args:
        clipped: number of boxes that reached beyond their image.
        empty: number of boxes without area, which were left out.
        without: number of images without any box.
        images: number of images.
    """
    notes = []
    if clipped:
        notes.append(f"Clipped {clipped:,} boxes to their images.")
    if empty:
        notes.append(f"Left out {empty:,} boxes without area.")
    if without:
        notes.append(f"{without:,} of {images:,} images have no objects.")
    return tuple(notes)
