"""The one definition of normalisation: training, evaluation and export."""

import dataclasses
import re

import numpy as np
from keras import ops

# Published constants, in grey levels of 0 to 255. The Wide ResNet code has one
# set for CIFAR-10 and CIFAR-100; its paper divides SVHN by 255 and no more.
_CIFAR = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
PUBLISHED = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenet2012": IMAGENET,
    "imagenette": IMAGENET,
    "svhn_cropped": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


def published(dataset):
    """Published constants of a data set, or None.

    Args:
        dataset: name; a version or configuration after it does not matter.

    Returns:
        (mean, std), each with one number a channel.
    """
    return PUBLISHED.get(re.split("[:/]", dataset)[0])


@dataclasses.dataclass(frozen=True)
class Normalise:
    """`(image - mean) / std`, channel by channel, in float32.

    Args:
        mean, std: one number a channel, in grey levels of 0 to 255.

    Call arguments:
        images: images in 0 to 255 of any integer or float type, channels
            last; NumPy arrays, or tensors of the backend.

    Reference:
        Zagoruyko and Komodakis 2016, section 3, "mean/std" preprocessing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(
                "`mean` and `std` must have one number for each channel, and "
                f"`std` no zero. Received: mean={self.mean}, std={self.std}."
            )

    def __call__(self, images):
        mean, std = np.float32(self.mean), np.float32(self.std)
        if not isinstance(images, np.ndarray):
            # TensorFlow computes in the type of the images: uint8 would wrap.
            images = ops.cast(images, "float32")
            return ops.divide(ops.subtract(images, mean), std)
        # Row by row: NumPy is slow where the last axis has but the channels.
        row = images.shape[-2:]
        rows = images.reshape(*images.shape[:-2], -1).astype("float32")
        rows -= np.broadcast_to(mean, row).ravel()
        rows /= np.broadcast_to(std, row).ravel()
        return rows.reshape(images.shape)


def channel_statistics(images):
    """Mean and standard deviation of the pixels, channel by channel.

    Rounded to a tenth of a grey level: of CIFAR-10 that gives the published
    constants.

    Args:
        images: uint8 array (images, height, width, channels).

    Returns:
        (mean, std), two tuples with one number a channel. A channel that
        never changes has std 1.
    """
    channels = images.shape[-1]
    mean, std = [], []
    for channel in range(channels):
        # Grey levels are few: exact sums from their counts, at no memory.
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        levels, total = np.arange(256), counts.sum()
        average = (counts * levels).sum() / total
        variance = (counts * (levels - average) ** 2).sum() / total
        mean.append(round(float(average), 1))
        std.append(round(float(variance**0.5), 1) or 1.0)
    return tuple(mean), tuple(std)
