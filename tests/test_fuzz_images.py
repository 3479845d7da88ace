"""Fuzz tests of image files in `predict` and `serve_bytes`."""

import io
import pathlib
import struct
import tempfile
import zlib

import numpy as np
import pytest

from fuzzing import Group, damaged, judged, pick
from keras_dropblock import data, exports, hub, models, tasks
from keras_dropblock.data import headers
from test_encoded import jpeg_of_size, png_of_size

pytestmark = [pytest.mark.fuzz, pytest.mark.tensorflow_only]
STATUSES = {
    headers.OK,
    headers.EMPTY,
    headers.UNKNOWN,
    headers.TOO_LARGE,
    headers.UNREADABLE,
}
PNG = b"\x89PNG\r\n\x1a\n"


# --- valid files


def picture(height, width):
    coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 3), "uint8")
    return np.resize(coarse.repeat(5, 0).repeat(5, 1), (height, width, 3))


def valid_files():
    """JPEG and PNG files in all of their modes."""
    image_module = pytest.importorskip("PIL.Image")
    files = []

    def add(mode, kind, size=(13, 21), **options):
        image = image_module.fromarray(picture(*size)).convert(mode)
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())

    for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"):
        if mode == "I;16":
            deep = picture(13, 21)[..., 0].astype("uint16") * 257
            file = io.BytesIO()
            image_module.fromarray(deep).save(file, "PNG")
            files.append(file.getvalue())
        else:
            add(mode, "PNG")
    add("RGB", "PNG", size=(1, 1))
    add("P", "PNG", bits=2, transparency=1)
    for mode in ("RGB", "L", "CMYK"):
        add(mode, "JPEG")
        add(mode, "JPEG", progressive=True)
    add("RGB", "JPEG", size=(40, 3), quality=95, subsampling=0)
    add("RGB", "JPEG", restart_marker_blocks=1, optimize=True)
    add("RGB", "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", comment=b"x" * 50)
    files += [interlaced(picture(13, 21), bits) for bits in (8, 16)]
    return files


def chunk(name, content):
    check = zlib.crc32(name + content)
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", check)
    )


def interlaced(image, bits):
    """An interlaced PNG file (Adam7, seven passes)."""
    height, width, _ = image.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 1)
    rows = b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        part = image[top::down, left::right]
        part = part.astype(">u2") * 257 if bits == 16 else part
        for row in part if part.size else ():
            rows += b"\0" + row.tobytes()  # no filter
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return PNG + body + chunk(b"IEND", b"")


# --- damaged files


def cases(count):
    """Yield (content, whether it derives from a valid file) for each case."""
    files = valid_files()
    large = picture(64, 64)
    for i in range(count):
        rng = np.random.default_rng([1, i])
        start = pick(rng, files)
        match i % 10:
            case 0:
                yield start, False
            case 1 | 2 | 3:
                yield damaged(rng, start), True
            case 4 | 5:  # in the header
                yield damaged(rng, start, range(min(60, len(start)))), True
            case 6 | 7 if start.startswith(PNG):
                yield damaged_chunk(rng, start), True
            case 8:
                yield of_odd_size(rng, large), True
            case 9:
                magic = pick(rng, [PNG, b"\xff\xd8\xff", b"GIF89a", b"BM", b""])
                yield magic + rng.bytes(int(rng.integers(300))), False
            case _:
                yield damaged(rng, start, range(len(start) // 2)), True


def damaged_chunk(rng, file):
    """A PNG file with a damaged chunk whose checksum is valid."""
    chunks, at = [], len(PNG)
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        chunks.append((file[at + 4 : at + 8], file[at + 8 : at + 8 + length]))
        at += 12 + length
    j = int(rng.integers(len(chunks)))
    name, content = chunks[j]
    if name == b"IDAT" and rng.random() < 0.5:
        rows = damaged(rng, zlib.decompress(content))
        chunks[j] = name, zlib.compress(rows)
    elif content and rng.random() < 0.8:
        chunks[j] = name, damaged(rng, content)
    else:
        chunks[j] = damaged(rng, name)[:4].ljust(4, b"x"), content
    return PNG + b"".join(chunk(*each) for each in chunks)


def of_odd_size(rng, image):
    """A file whose header has the wrong image size."""
    width, height = (
        int(pick(rng, [0, 1, 7, 300, 5792, 5793, 65_500, 65_535, side]))
        for side in rng.integers(0, 65_536, 2)
    )
    if rng.random() < 0.5:
        return jpeg_of_size(width, height, image)
    far = int(pick(rng, [1, 1, 2**15, 2**16]))
    return png_of_size(min(width * far, 2**32 - 1), height)


# --- the outcomes


class Network:
    """A network for images with some channels, and its SavedModel."""

    def __init__(self, channels, folder):
        import tensorflow as tf

        self.model = models.WRN(
            10, 1, num_classes=4, input_shape=(8, 12, channels)
        )
        preprocessing = data.Preprocessing(
            (8, 12), (120.0,) * channels, (60.0,) * channels
        )
        self.model.card = hub.Card("toy", preprocessing, tuple("abcd"))
        path = exports.export(self.model, folder / str(channels))
        self._kept = tf.saved_model.load(str(path))

    def serve(self, contents):
        """(status, probabilities) of each file, from one call."""
        import tensorflow as tf

        answer = self._kept.serve_bytes(tf.constant(contents, tf.string))
        statuses = [status.decode() for status in answer["status"].numpy()]
        return [*zip(statuses, answer["probabilities"].numpy(), strict=True)]

    def check(self, path, status, served):
        """Both give the same probabilities, or both give a reason."""
        assert status in STATUSES, status
        if status != headers.OK:
            assert not served.any()
        try:
            (here,) = tasks.Classification().probabilities(
                self.model, self.model.card, [path]
            )
        except ValueError as error:
            assert status != headers.OK, f"served, but here: {error}"
            raise
        assert status == headers.OK, f"{status}, but here it has an answer"
        assert np.isfinite(here).all() and abs(here.sum() - 1) < 1e-5
        assert abs(here - served).max() < 1e-5


def images(count):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        networks = [Network(channels, folder / "net") for channels in (3, 1, 4)]
        path = folder / "image"
        yield None
        files = [*cases(count)]
        for i in range(0, count, 25):
            batch = files[i : i + 25]
            network = networks[(0, 0, 1, 0, 2)[i // 25 % 5]]
            answers = network.serve([content for content, _ in batch])
            for (content, derived), answer in zip(batch, answers, strict=True):
                path.write_bytes(content)
                result, fault = judged(ValueError, network.check, path, *answer)
                yield result, derived, fault


def test_predict_and_serve_bytes_give_the_same_answer_or_error(record_property):
    pytest.importorskip("PIL")
    group = Group("images", record_property)
    group.apart(images, 1200)
    group.close(at_least=1200)


def test_valid_files_of_every_mode_are_read(tmp_path):
    network = Network(3, tmp_path / "net")
    contents = valid_files()
    for content, answer in zip(contents, network.serve(contents), strict=True):
        (tmp_path / "image").write_bytes(content)
        network.check(tmp_path / "image", *answer)
    rows = data.images.decode(interlaced(picture(13, 21), 8)).numpy()
    assert (rows == picture(13, 21)).all()
