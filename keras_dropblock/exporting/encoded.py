"""Image files that strangers send, each judged by itself, in a graph."""

from keras_dropblock.data import headers
from keras_dropblock.data.headers import OK, UNREADABLE
from keras_dropblock.data.images import fit_to_size

_AT_ONCE = 2  # files of a batch in memory as pixels


def decode_each(files, size, channels, central_part):
    """Decode a batch of image files; one that fails spares the others.

    Args:
        files: string tensor (batch,), each a JPEG or PNG file of any size.
        size: (height, width) in pixels of what comes out.
        channels: 1, 3 or 4.
        central_part: see `data.fit_to_size`.

    Returns:
        (uint8 tensor (batch, *size, channels), string tensor (batch,)): the
        images, black where there is none, and what became of each: see
        `data.headers.status`, and `UNREADABLE` for a file that is damaged,
        cut short, or of a kind that has no such channels.
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
        status = headers.status(file)
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
