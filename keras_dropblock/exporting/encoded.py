"""Image files that strangers send, each judged by itself, in a graph."""

from keras_dropblock.data.images import fit_to_size

# Read from the header, before anything is decoded. 2^25 pixels, 33 million,
# are 100 MB as bytes and 400 MB while they are resized.
MAX_PIXELS = 2**25
_AT_ONCE = 2  # files of a batch in memory as pixels
MAX_SIDE = 65_500  # pixels, libjpeg's own

OK = "ok"
EMPTY = "empty"
UNKNOWN = "neither JPEG nor PNG"
TOO_LARGE = "too large"
UNREADABLE = "cannot be decoded"


def decode_each(files, size, channels, central_part):
    """Decode a batch of image files; one that fails spares the others.

    Args:
        files: string tensor (batch,), each a JPEG or PNG file of any size.
        size: (height, width) in pixels of what comes out.
        channels: 1, 3 or 4.
        central_part: see `data.fit_to_size`.

    Returns:
        (uint8 tensor (batch, *size, channels), string tensor (batch,)): the
        images, black where there is none, and what became of each: `OK`,
        `EMPTY`, `UNKNOWN`, `TOO_LARGE` (more than `MAX_PIXELS`, or a side
        above `MAX_SIDE`) or `UNREADABLE` (damaged, cut short, or of a kind
        that has no such channels).
    """
    import tensorflow as tf

    black = tf.zeros((*size, channels), tf.uint8)

    def decode(file):
        pixels = tf.io.decode_image(
            file, channels=channels, expand_animations=False
        )
        pixels.set_shape((None, None, channels))
        return fit_to_size(pixels, size, central_part)

    def judge(i, file):
        status = _status(file)
        image = tf.cond(status == OK, lambda: decode(file), lambda: black)
        return i, status, tf.ensure_shape(image, (*size, channels))

    # A graph cannot catch an error, but a data set can leave out what failed.
    # The last element makes sure that there is one.
    count = tf.size(files, tf.int64)
    rows, status, images = (
        tf.data.Dataset.from_tensor_slices(files)
        .enumerate()
        .map(judge, num_parallel_calls=_AT_ONCE)
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((count, OK, black)))
        .batch(count + 1)
        .get_single_element()
    )
    statuses = tf.fill([count + 1], UNREADABLE)
    return (
        tf.scatter_nd(
            rows[:, None],
            images,
            tf.concat([[count + 1], tf.shape(black, tf.int64)], 0),
        )[:-1],
        tf.tensor_scatter_nd_update(statuses, rows[:, None], status)[:-1],
    )


def _status(file):
    """What the first bytes of a file tell: OK, EMPTY, UNKNOWN, TOO_LARGE."""
    import tensorflow as tf

    def by_size(size):
        size = tf.cast(size, tf.int64)
        # A PNG's 2^31 and more come out negative.
        fits = tf.reduce_all((size >= 0) & (size <= MAX_SIDE))
        fits &= tf.reduce_prod(size) <= MAX_PIXELS
        return tf.where(fits, OK, TOO_LARGE)

    def png_size():  # width and height, bytes 16 to 23
        padded = tf.strings.join([file, tf.constant(b"\0" * 24)])
        size = tf.strings.substr(padded, 16, 8)
        return tf.io.decode_raw(size, tf.int32, little_endian=False)

    start = tf.strings.substr(file, 0, 8)
    return tf.case(
        [
            (tf.equal(start, b""), lambda: tf.constant(EMPTY)),
            (
                tf.equal(start, b"\x89PNG\r\n\x1a\n"),
                lambda: by_size(png_size()),
            ),
            (
                tf.equal(tf.strings.substr(file, 0, 3), b"\xff\xd8\xff"),
                lambda: by_size(tf.io.extract_jpeg_shape(file)[:2]),
            ),
        ],
        default=lambda: tf.constant(UNKNOWN),
        exclusive=True,
    )
