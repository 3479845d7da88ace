"""Options for reading a data set."""

import dataclasses

from keras_dropblock.data.preprocessing import IMAGENET, gray_levels

# What `dataset` may be.
SOURCES = (
    "digits, shapes, a .npz file, folder:PATH, masks:PATH, coco:PATH, or a "
    "name in TensorFlow Datasets"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options for reading a data set. Each source uses some of them.

    Args:
        data_dir: folder of TensorFlow Datasets; None: its default.
        train_split, test_split: names or slices of TensorFlow Datasets, such
            as `"train+extra"`. For a folder of images without a test folder,
            `test_split` is a fraction of the training images.
        validation_split: fraction of the training images to hold out, or a
            slice of TensorFlow Datasets; None: no validation split.
        image_size: side in pixels: the central square of each image is
            resized to it. Or (height, width) in pixels: the largest central
            part with this aspect ratio is resized to it. None: images are not
            resized and must all have the same size. With boxes or masks,
            whole images are scaled into this size.
        skip_broken: whether to skip and count files of a folder or in the
            layout of COCO that cannot be decoded, and images that the
            annotations of COCO list but that are absent, instead of raising
            an error. All files are decoded once to find them.
        streamed: whether images stay on disk until they are needed.
        crop_fraction: for streamed test images, side of the central crop as a
            fraction of the shorter side.
        labels: what is wanted for each image: `"classes"`, `"boxes"` or
            `"masks"`.
        ignored_labels: labels of masks that mean "not labeled", besides 255.
        mean: mean of each channel, on the scale of 0 to 255, that fills the
            rest of a frame; None: that of ImageNet.
    """

    data_dir: str | None = None
    train_split: str = "train"
    test_split: str | float = "test"
    validation_split: str | float | None = None
    image_size: int | tuple[int, int] | None = None
    skip_broken: bool = False
    streamed: bool = False
    crop_fraction: float = 1.0
    labels: str = "classes"
    ignored_labels: tuple[int, ...] = ()
    mean: tuple[float, ...] | None = None

    @property
    def frame(self):
        """`image_size` as (height, width), or None."""
        if isinstance(self.image_size, int):
            return (self.image_size, self.image_size)
        return self.image_size

    @property
    def fill(self):
        """Gray levels of the rest of a frame, as in `Preprocessing`."""
        return gray_levels(self.mean or IMAGENET[0])
