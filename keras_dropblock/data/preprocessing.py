"""Preprocessing: from an image of any size to the input of a network."""

import dataclasses
import re

import keras
import numpy as np

from keras_dropblock.data.framing import frame_image
from keras_dropblock.data.images import fit_to_size
from keras_dropblock.data.resizing import RESIZE_FIRST, resize_and_crop
from keras_dropblock.errors import DataError

# Published constants, in gray levels of 0 to 255. The Wide ResNet code uses
# the same constants for CIFAR-10 and CIFAR-100. For SVHN, the paper only
# divides by 255.
_CIFAR = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
PUBLISHED = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenet2012": IMAGENET,
    "imagenette": IMAGENET,
    "svhn_cropped": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}
INTERPOLATIONS = ("bilinear", "bicubic")
FRAMINGS = ("crop", "pad", *RESIZE_FIRST)


def published_statistics(dataset):
    """Published mean and standard deviation of a data set, or None.

    Args:
        dataset: its name, with or without version and configuration.

    Returns:
        (mean, std), each with one number per channel.
    """
    return None if dataset.endswith(".npz") else PUBLISHED.get(_name(dataset))


def _name(dataset):
    """Name of a TFDS data set without configuration and version."""
    return re.split("[:/]", dataset)[0]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Crop, resize and normalization of an image for a network.

    The image is cropped to the center and resized to `image_size` with
    antialiasing, as `framing` says. Then the pixels are normalized:
    `(pixel - mean) / std`.

    Args:
        image_size: (height, width) in pixels.
        mean, std: one number per channel, in gray levels of 0 to 255.
        crop_fraction: side of the crop, as a fraction of the side of the
            largest central crop with the aspect ratio of `image_size`, in
            (0, 1]. The usual test crop of ImageNet, 224 of 256 pixels, is
            0.875.
        interpolation: `"bilinear"` or `"bicubic"`.
        framing: how an image of another size is brought to `image_size`:

            - `"crop"`: cropped, then resized (see `images.fit_to_size`).
            - `"pad"`: the whole image is scaled into `image_size`, and the
              rest is filled with the mean (see `framing.frame_image`).
            - `"resize_crop"`, `"squash_crop"` or `"border_crop"`: resized,
              then cropped, with the pixels of Pillow, as timm and torchvision
              do (see `resizing.resize_and_crop`).

    Raises:
        DataError: for an argument out of its range.

    Reference:
        Zagoruyko and Komodakis 2016, section 3, "mean/std" preprocessing.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    framing: str = "crop"

    def __post_init__(self):
        for name in ("image_size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise DataError(
                "`mean` and `std` must have one number for each channel, and "
                "all numbers of `std` must be > 0. Received: "
                f"mean={self.mean}, std={self.std}."
            )
        if not 0 < self.crop_fraction <= 1:
            raise DataError(
                "`crop_fraction` must be in (0, 1]. Received: "
                f"crop_fraction={self.crop_fraction}."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"`interpolation` must be one of {', '.join(INTERPOLATIONS)}. "
                f"Received: interpolation={self.interpolation!r}."
            )
        if self.framing not in FRAMINGS:
            raise DataError(
                f"`framing` must be one of {', '.join(FRAMINGS)}. Received: "
                f"framing={self.framing!r}."
            )

    @property
    def image_shape(self):
        """(height, width, channels)."""
        return (*self.image_size, len(self.mean))

    def fit(self, image):
        """Bring a TensorFlow image to `image_size`, as `framing` says."""
        if self.framing == "pad":
            return frame_image(
                image, self.image_size, self.fill, self.interpolation
            )
        if self.framing in RESIZE_FIRST:
            return resize_and_crop(
                image,
                self.image_size,
                self.crop_fraction,
                self.framing,
                self.interpolation,
                self.fill,
            )
        return fit_to_size(
            image, self.image_size, self.crop_fraction, self.interpolation
        )

    @property
    def fill(self):
        """Gray levels of the rest of the frame: the mean, rounded."""
        return gray_levels(self.mean)

    def normalize(self, images):
        """Compute `(images - mean) / std` for each channel, in float32.

        Args:
            images: uint8 or float images with values of 0 to 255, channels
                last; NumPy arrays or tensors of the backend.
        """
        if not isinstance(images, np.ndarray):
            return self.layer()(images)
        mean, std = np.float32(self.mean), np.float32(self.std)
        # Merge width and channels, because NumPy is slow if the last axis has
        # only the channels.
        row = images.shape[-2:]
        rows = images.reshape(*images.shape[:-2], -1).astype("float32")
        rows -= np.broadcast_to(mean, row).ravel()
        rows /= np.broadcast_to(std, row).ravel()
        return rows.reshape(images.shape)

    def layer(self):
        """A Keras layer that normalizes pixels, for models."""
        return PixelNormalization(self.mean, self.std, name="normalization")

    def to_dict(self):
        """Convert to a dict of JSON values, which `from_dict` reads."""
        content = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }
        if self.framing == "crop":  # older cards do not have the key
            del content["framing"]
        return content

    @classmethod
    def from_dict(cls, content):
        """Create from a dict of `to_dict`.

        Raises:
            TypeError: for missing or unknown keys.
        """
        return cls(**content)


@keras.saving.register_keras_serializable("keras_dropblock")
class PixelNormalization(keras.layers.Layer):
    """`(pixel - mean) / std`, channel by channel, in float32.

    Keras's Normalization layer keeps its numbers as tensors of the backend.
    tf2onnx would treat these as further inputs.

    Args:
        mean, std: one number per channel, in gray levels of 0 to 255.

    Input shape:
        `(..., channels)`, of any dtype.

    Output shape:
        The shape of the input.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.mean = tuple(mean)
        self.std = tuple(std)

    def call(self, images):
        images = keras.ops.cast(images, "float32")
        centered = keras.ops.subtract(images, np.float32(self.mean))
        return keras.ops.divide(centered, np.float32(self.std))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        del config["dtype"]
        return {**config, "mean": self.mean, "std": self.std}


def gray_levels(mean):
    """Round a mean of 0 to 255 to the color that fills a frame."""
    return tuple(min(max(round(level), 0), 255) for level in mean)


def channel_statistics(images):
    """Mean and standard deviation of the pixels, channel by channel.

    They are rounded to a tenth of a gray level. For CIFAR-10, this gives the
    published constants.

    Args:
        images: uint8 array (images, height, width, channels).

    Returns:
        (mean, std), two tuples with one number per channel. The std of a
        constant channel is set to 1.
    """
    channels = images.shape[-1]
    mean, std = [], []
    for channel in range(channels):
        # Counts of the 256 gray levels give exact sums and need little
        # memory.
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        levels, total = np.arange(256), counts.sum()
        average = (counts * levels).sum() / total
        variance = (counts * (levels - average) ** 2).sum() / total
        mean.append(round(float(average), 1))
        std.append(round(float(variance**0.5), 1) or 1.0)
    return tuple(mean), tuple(std)
