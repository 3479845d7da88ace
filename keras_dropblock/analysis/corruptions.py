"""Corruptions of images: noise, blur, low contrast, pixelation and JPEG.

These are our own corruptions with our own strengths. They are similar to some
of ImageNet-C and CIFAR-10-C, but the scores cannot be compared with published
scores on those data sets.
"""

import io

import numpy as np

# One number for each strength from 1 to 5.
STRENGTHS = {
    # Standard deviation of Gaussian noise, as a fraction of 255.
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    # Standard deviation of a Gaussian blur, as a fraction of the shorter side.
    "blur": (0.0125, 0.02, 0.03, 0.04, 0.055),
    # Factor of the deviations from the image's mean.
    "contrast": (0.75, 0.5, 0.35, 0.25, 0.15),
    # Side of the reduced image, as a fraction of the side.
    "pixelation": (0.8, 0.65, 0.5, 0.4, 0.3),
    # Quality of the JPEG file, from 1 to 95.
    "jpeg": (80, 60, 40, 25, 10),
}


def corrupt(images, kind, strength, seed=0):
    """Corrupt images in one way, all with the same strength.

    Args:
        images: uint8 array (images, height, width, channels) with 1 or 3
            channels.
        kind: a key of `STRENGTHS`: `"noise"` adds Gaussian noise; `"blur"`
            applies a Gaussian blur; `"contrast"` moves all values towards the
            mean of the image; `"pixelation"` averages the image to a smaller
            one and enlarges it without interpolation; `"jpeg"` compresses it.
        strength: int from 1 (weak) to 5 (strong): see `STRENGTHS`.
        seed: seed of the noise.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: for another kind, strength, dtype or number of channels.

    Reference:
        Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261, is
        the source of the idea and of these kinds.
    """
    images = np.asarray(images)
    _check(images, kind, strength)
    value = STRENGTHS[kind][strength - 1]
    if kind == "noise":
        rng = np.random.default_rng(seed)
        noise = rng.normal(scale=255 * value, size=images.shape)
        return _rounded(images + noise)
    if kind == "blur":
        return _blurred(images, value)
    if kind == "contrast":
        mean = images.mean((1, 2, 3), keepdims=True)
        return _rounded(mean + value * (images - mean))
    change = _pixelated if kind == "pixelation" else _compressed
    results = [change(image, value) for image in images]
    return np.reshape(results, images.shape).astype("uint8")


def _check(images, kind, strength):
    if kind not in STRENGTHS:
        raise ValueError(
            f"`kind` must be one of {', '.join(STRENGTHS)}. Received: "
            f"kind={kind!r}."
        )
    if strength not in (1, 2, 3, 4, 5):
        raise ValueError(
            "`strength` must be an int from 1 to 5. Received: "
            f"strength={strength!r}."
        )
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or images.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            "`images` must be a uint8 array (images, height, width, 1 or 3 "
            "channels), before normalization. Received: "
            f"{images.dtype} of shape {images.shape}."
        )


def _rounded(images):
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def _blurred(images, share):
    from scipy import ndimage

    sigma = share * min(images.shape[1:3])
    blurred = ndimage.gaussian_filter(
        images.astype("float32"), (0, sigma, sigma, 0), mode="nearest"
    )
    return _rounded(blurred)


def _pixelated(image, share):
    from PIL import Image

    picture = Image.fromarray(image.squeeze(-1) if _is_gray(image) else image)
    size = [max(1, round(share * side)) for side in picture.size]
    small = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.NEAREST))


def _compressed(image, quality):
    from PIL import Image

    file = io.BytesIO()
    picture = Image.fromarray(image.squeeze(-1) if _is_gray(image) else image)
    picture.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _is_gray(image):
    return image.shape[-1] == 1
