"""Checks of an image file by its header, before it is decoded."""

# 2^25 pixels (33 million) need 100 MB as bytes and 400 MB while the image is
# resized.
MAX_PIXELS = 2**25
MAX_SIDE = 65_500  # pixels, the limit of libjpeg
# Progressive JPEG files have about 10 scans. Each scan is a pass over all
# pixels, so decoding a small file with many scans could take hours.
MAX_SCANS = 100

OK = "ok"
EMPTY = "empty"
UNKNOWN = "neither JPEG nor PNG"
TOO_LARGE = "too large"
UNREADABLE = "cannot be decoded"


def status(file):
    """Whether a file may be decoded.

    Args:
        file: scalar string tensor, the content of a file.

    Returns:
        Scalar string tensor: `OK`, `EMPTY`, `UNKNOWN` or `TOO_LARGE`. An
        image is too large if it has more than `MAX_PIXELS` pixels, a side
        above `MAX_SIDE`, or as a JPEG file more than `MAX_SCANS` scans.

    Raises:
        tf.errors.InvalidArgumentError: for a JPEG file without a size.
    """
    import tensorflow as tf

    def by_size(size):
        size = tf.cast(size, tf.int64)
        # In a PNG file, a side of 2^31 or more is read as a negative number.
        fits = tf.reduce_all((size >= 0) & (size <= MAX_SIDE))
        fits &= tf.reduce_prod(size) <= MAX_PIXELS
        return tf.where(fits, OK, TOO_LARGE)

    def of_png():  # width and height, bytes 16 to 23
        padded = tf.strings.join([file, tf.constant(b"\0" * 24)])
        size = tf.strings.substr(padded, 16, 8)
        return by_size(tf.io.decode_raw(size, tf.int32, little_endian=False))

    def of_jpeg():
        # 0xff 0xda starts a scan. It cannot occur in the data of a scan,
        # where 0xff is followed by 0 or a restart marker.
        content = tf.io.decode_raw(file, tf.uint8)
        starts = (content[:-1] == 0xFF) & (content[1:] == 0xDA)
        few = tf.math.count_nonzero(starts) <= MAX_SCANS
        size = tf.io.extract_jpeg_shape(file)[:2]
        return tf.where(few, by_size(size), TOO_LARGE)

    start = tf.strings.substr(file, 0, 8)
    return tf.case(
        [
            (tf.equal(start, b""), lambda: tf.constant(EMPTY)),
            (tf.equal(start, b"\x89PNG\r\n\x1a\n"), of_png),
            (tf.equal(tf.strings.substr(file, 0, 3), b"\xff\xd8\xff"), of_jpeg),
        ],
        default=lambda: tf.constant(UNKNOWN),
        exclusive=True,
    )
