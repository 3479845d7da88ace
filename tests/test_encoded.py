"""Untrusted image files: each gives a result or a status with the reason."""

import io
import re
import struct
import zlib

import numpy as np
import pytest

from keras_dropblock.data import Preprocessing, headers
from keras_dropblock.exports import image_files

pytestmark = pytest.mark.tensorflow_only
SIZE = (8, 6)


@pytest.fixture(scope="module")
def picture():
    """A smooth image, which JPEG preserves well. It is not square."""
    coarse = np.random.default_rng(0).integers(0, 256, (2, 2, 3), "uint8")
    return coarse.repeat(4, 0).repeat(3, 1)


@pytest.fixture(scope="module")
def decode():
    """`decode_each` as an export compiles it: (images, statuses)."""
    import tensorflow as tf

    def compiled(channels):
        return tf.function(
            lambda files: image_files.decode_each(
                files, Preprocessing(SIZE, [0] * channels, [1] * channels)
            ),
            input_signature=[tf.TensorSpec((None,), tf.string)],
            autograph=False,
        )

    functions = {channels: compiled(channels) for channels in (1, 3, 4)}

    def decode(*files, channels=3):
        images, statuses = functions[channels](tf.constant(files, tf.string))
        return images.numpy(), [status.decode() for status in statuses.numpy()]

    return decode


def write(image, mode, kind="PNG"):
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    # The palette has as many colors as the image.
    adaptive = image_module.Palette.ADAPTIVE
    image = image_module.fromarray(image).convert(mode, palette=adaptive)
    image.save(file, kind)
    return file.getvalue()


def png_of_size(width, height):
    """A valid PNG file of 1 kB whose header declares this size."""

    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(
            f">I4s{len(content)}sI", len(content), name, content, check
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


def jpeg_of_size(width, height, image):
    """A JPEG file whose header declares this size."""
    file = bytearray(write(image, "RGB", "JPEG"))
    start = file.find(b"\xff\xc0") + 5  # position of height and width
    file[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(file)


def jpeg_of_scans(count, image):
    """A progressive JPEG file that repeats its first refinement scan."""
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.fromarray(image).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    starts = [m.start() for m in re.finditer(b"\xff\xda", content)]
    scan = content[starts[-1] : content.rfind(b"\xff\xd9")]
    return content.replace(scan, scan * (count - len(starts) + 1))


def test_a_file_that_fails_does_not_affect_the_others(decode, picture):
    good, jpeg = write(picture, "RGB"), write(picture, "RGB", "JPEG")
    broken = jpeg[: len(jpeg) // 2]
    images, statuses = decode(b"", good, b"garbage", broken, good, broken)
    assert statuses == [
        headers.EMPTY,
        headers.OK,
        headers.UNKNOWN,
        headers.UNREADABLE,
        headers.OK,
        headers.UNREADABLE,
    ]
    assert (images[[1, 4]] == picture).all() and not images[[0, 2, 3, 5]].any()


def test_no_file_gives_no_image(decode):
    images, statuses = decode()
    assert images.shape == (0, *SIZE, 3) and statuses == []


def test_every_kind_of_png_is_decoded_correctly(decode, picture):
    import tensorflow as tf

    gray = picture[..., 0]
    deep = tf.io.encode_png(picture.astype("uint16") * 256 + 255).numpy()
    images, statuses = decode(
        write(picture, "RGB"),
        write(picture, "P"),  # four colors, which all fit into the palette
        write(picture, "RGBA"),  # transparency is ignored
        write(gray, "L"),
        write(gray, "LA"),
        deep,  # the upper 8 of 16 bits are used
    )
    assert statuses == ["ok"] * 6
    for image, expected in zip(
        images,
        [picture] * 3 + [np.stack([gray] * 3, -1)] * 2 + [picture],
        strict=True,
    ):
        assert (image == expected).all()


def test_transparency_is_a_fourth_channel_where_the_network_has_one(
    decode, picture
):
    images, statuses = decode(
        write(picture, "RGBA"), write(picture, "RGB", "JPEG"), channels=4
    )
    assert (images[0, ..., :3] == picture).all() and (
        images[0, ..., 3] == 255
    ).all()
    # JPEG has no transparency.
    assert statuses == [headers.OK, headers.UNREADABLE]


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_every_kind_of_jpeg_is_decoded_correctly(decode, picture, mode):
    flat = np.full_like(picture, [200, 120, 40])
    (image,), statuses = decode(write(flat, mode, "JPEG"))
    expected = [200, 120, 40]
    if mode == "L":
        expected = np.dot(expected, [0.299, 0.587, 0.114])
    assert statuses == ["ok"] and abs(image - expected).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_kinds_of_files_have_their_own_status(decode, picture, kind):
    images, statuses = decode(write(picture, "RGB", kind))
    assert statuses == [headers.UNKNOWN] and not images.any()


def test_a_decompression_bomb_is_detected_by_its_header(decode, picture):
    at_most = headers.MAX_SIDE
    files = [
        png_of_size(at_most, at_most),
        jpeg_of_size(at_most, at_most, picture),
        png_of_size(at_most + 1, 1),
        png_of_size(2**31 + 5, 2**31 + 5),  # negative as an int32
        png_of_size(5793, 5793),  # 2^25 = 5792.6^2
    ]
    assert decode(*files)[1] == [headers.TOO_LARGE] * 5
    # With one pixel less, the file is decoded and found to be incomplete.
    assert decode(png_of_size(5792, 5792))[1] == [headers.UNREADABLE]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(decode, picture):
    at_most = jpeg_of_scans(headers.MAX_SCANS, picture)
    too_many = jpeg_of_scans(headers.MAX_SCANS + 1, picture)
    assert decode(at_most)[1] == [headers.OK]
    assert decode(too_many)[1] == [headers.TOO_LARGE]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_anywhere_is_a_result_or_a_reason(decode, picture, kind):
    file = write(picture, "RGB", kind)
    _, statuses = decode(*(file[:end] for end in range(1, len(file), 7)), file)
    assert statuses[-1] == headers.OK
    assert statuses[0] == headers.UNKNOWN  # one byte does not show the format
    middle = {*statuses[2 : len(statuses) // 2]}
    assert middle == {headers.UNREADABLE}
    assert {*statuses} <= {headers.OK, headers.UNKNOWN, headers.UNREADABLE}


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_cannot_be_decoded(decode, size):
    assert decode(png_of_size(*size))[1] == [headers.UNREADABLE]
