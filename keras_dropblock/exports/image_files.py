"""Decode untrusted image files in a TensorFlow graph, each independently."""

from keras_dropblock.data import headers, images
from keras_dropblock.data.headers import OK, UNREADABLE

_AT_ONCE = 2  # files decoded in parallel; limits the memory of a batch


def decode_each(files, preprocessing):
    """Decode a batch of image files. A bad file does not affect the others.

    Args:
        files: string tensor (batch,), the contents of JPEG or PNG files of
            any size.
        preprocessing: `data.Preprocessing` with 1, 3 or 4 channels. Its `fit`
            is applied to each image.

    Returns:
        A tuple (images, statuses). Images are a uint8 tensor (batch,
        *image_shape), black where a file cannot be used. Statuses are a
        string tensor (batch,): see `data.headers.status`, or `UNREADABLE` for
        a file that is damaged, truncated or does not support this number of
        channels.
    """
    return decode_with_sizes(files, preprocessing)[:2]


def decode_with_sizes(files, preprocessing):
    """Decode a batch of image files: see `decode_each`.

    Returns:
        (images, statuses, sizes). Sizes are an int32 tensor (batch, 2), height
        and width of the images in their files; 1 where a file cannot be used.
    """
    import tensorflow as tf

    shape = preprocessing.image_shape
    channels = shape[-1]
    black, no_size = tf.zeros(shape, tf.uint8), tf.ones(2, tf.int32)

    def decode(file):
        pixels = images.decode(file, channels)
        pixels.set_shape((None, None, channels))
        return preprocessing.fit(pixels), tf.shape(pixels)[:2]

    def judge(i, file):
        status = headers.status(file)
        image, size = tf.cond(
            status == OK, lambda: decode(file), lambda: (black, no_size)
        )
        size = tf.ensure_shape(size, (2,))
        return i, status, tf.ensure_shape(image, shape), size

    # A graph cannot catch errors, but a `tf.data.Dataset` can skip elements
    # that raise one. The extra last element keeps the data set non-empty.
    count = tf.size(files, tf.int64)
    rows, status, decoded, sizes = (
        tf.data.Dataset.from_tensor_slices(files)
        .enumerate()
        .map(judge, num_parallel_calls=_AT_ONCE)
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((count, OK, black, no_size)))
        .batch(count + 1)
        .get_single_element()
    )
    statuses = tf.fill([count + 1], UNREADABLE)
    every_size = tf.ones((count + 1, 2), tf.int32)
    return (
        tf.scatter_nd(
            rows[:, None],
            decoded,
            tf.concat([[count + 1], tf.shape(black, tf.int64)], 0),
        )[:-1],
        tf.tensor_scatter_nd_update(statuses, rows[:, None], status)[:-1],
        tf.tensor_scatter_nd_update(every_size, rows[:, None], sizes)[:-1],
    )
