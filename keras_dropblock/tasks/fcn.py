"""The segmentation network of the DropBlock paper: FPN and FCN head."""

import keras

from keras_dropblock.data.geometry import IGNORED
from keras_dropblock.layers import DropBlock2D
from keras_dropblock.layers.convolution import batch_norm, conv2d
from keras_dropblock.models import Network, features, image_shape


def FCN(
    backbone,
    num_classes,
    *,
    level=3,
    filters=256,
    convs=2,
    keep_prob=1.0,
    block_size=7,
    name=None,
):
    """Semantic segmentation with a feature pyramid and convs on one level.

    The feature maps of the backbone are merged from coarse to fine, as in a
    feature pyramid network, down to `level`. The head on this level has
    `convs` times a 3x3 conv, BN, ReLU and DropBlock, and then a 1x1 conv. Its
    logits are enlarged to the size of the image by bilinear interpolation.

    In the paper, DropBlock in this head helps more than DropBlock in the
    backbone. The paper does not say where in the head it is, and its code was
    not published. It is our choice to apply it after each ReLU.

    Args:
        backbone: a model of `ResNet` with channels last, whose height and
            width are multiples of 32 pixels. Its layers are shared.
        num_classes: number of classes, int >= 2.
        level: the head's stride is `2 ** level` pixels; 2, 3, 4 or 5.
        filters: channels of the pyramid and of the head.
        convs: number of 3x3 convs of the head.
        keep_prob: keep_prob of DropBlock on the head, in [0, 1]. 1.0 adds no
            DropBlock layer.
        block_size: its block_size, in pixels of the level.
        name: name of the model, or None for `fcn`.

    Returns:
        A functional `keras.Model` from normalized images to float32 logits
        (batch, height, width, num_classes).

    Raises:
        ValueError: for a backbone without these levels or of another size, or
            an argument out of its range.

    Example:
        >>> backbone = ResNet(18, input_shape=(192, 256, 3), num_classes=1)
        >>> model = FCN(backbone, 11, keep_prob=0.9, block_size=5)

    Reference:
        Ghiasi et al. 2018, section 4.3; Lin et al. 2017,
        https://arxiv.org/abs/1612.03144, section 3. The defaults of level and
        convs are those of the segmentation in tensorflow/tpu,
        models/official/detection.
    """
    check_size(backbone)
    if level not in (2, 3, 4, 5):
        raise ValueError(f"`level` must be 2, 3, 4 or 5. Received: {level!r}.")
    if num_classes == 1:
        raise ValueError(
            "`num_classes` must be 2 or more, the background included. "
            f"Received: num_classes={num_classes}."
        )
    for argument, value, most in (
        ("num_classes", num_classes, 10_000),
        ("filters", filters, 4096),
        ("convs", convs, 16),
    ):
        # A card that was downloaded may ask for more than fits into memory.
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(
                f"`{argument}` must be an int from 1 to {most:,}. Received: "
                f"{argument}={value!r}."
            )
    maps = pyramid(backbone, range(level, 6))
    x = _merged(maps, level, filters)
    x = conv2d(filters, 3, padding="same", name="fpn_conv")(x)
    for i in range(1, convs + 1):
        x = conv2d(filters, 3, padding="same", name=f"head_conv{i}")(x)
        x = batch_norm("channels_last", name=f"head_bn{i}")(x)
        x = keras.layers.ReLU(name=f"head_relu{i}")(x)
        if keep_prob < 1:
            x = DropBlock2D(
                keep_prob=keep_prob,
                block_size=block_size,
                name=f"head_dropblock{i}",
            )(x)
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="logits",
    )(x)
    x = keras.layers.UpSampling2D(
        2**level, interpolation="bilinear", dtype="float32", name="enlarged"
    )(x)
    return Network(backbone.inputs[0], x, name=name or "fcn")


def _merged(maps, level, filters):
    """The level of a feature pyramid, before its 3x3 conv."""
    x = None
    for current in range(5, level - 1, -1):
        lateral = conv2d(filters, 1, name=f"fpn_lateral{current}")(
            maps[current]
        )
        if x is None:
            x = lateral
            continue
        x = keras.layers.UpSampling2D(2, name=f"fpn_up{current}")(x)
        x = keras.layers.Add(name=f"fpn_add{current}")([x, lateral])
    return x


def pyramid(backbone, levels):
    """Feature maps of a backbone: dict from level n to the map of stride 2^n.

    Raises:
        ValueError: if it has no map of such a stride.
    """
    strides = {level: 2**level for level in levels}
    output = features(backbone, tuple(strides.values())).output
    return {
        level: output[f"stride{stride}"] for level, stride in strides.items()
    }


def mask_loss():
    """Cross-entropy of logits and masks, without pixels of no class."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED
    )


def check_size(backbone):
    """Raise ValueError unless height and width are multiples of 32 pixels."""
    shape = image_shape(backbone)
    if keras.config.image_data_format() != "channels_last" or any(
        side is None or side % 32 for side in shape[:2]
    ):
        raise ValueError(
            "`backbone` must have channels last, and images whose height and "
            "width are multiples of 32 pixels. Received: images of "
            f"{shape}, {keras.config.image_data_format()}."
        )
