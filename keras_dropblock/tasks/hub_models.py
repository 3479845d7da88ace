"""Networks of KerasHub with backbones of this package.

KerasHub is the extra `vision`. It brings TensorFlow, on every backend. Import
this module by `tasks.vision`, whose error says how to install it.
"""

import keras
import keras_hub

from keras_dropblock.models import features, image_shape
from keras_dropblock.models.network import Carded
from keras_dropblock.tasks.fcn import check_size, mask_loss

_LEVELS = (2, 3, 4, 5)  # of the feature maps of ResNets


@keras.saving.register_keras_serializable("keras_dropblock")
class PyramidBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network of this package as a backbone of KerasHub, with levels.

    Args:
        network: a `FeaturePyramid` of the strides 4, 8, 16 and 32, which has
            no classifier. Its layers are shared.
    """

    def __init__(self, network, **kwargs):
        maps = {f"P{n}": network.output[f"stride{2**n}"] for n in _LEVELS}
        super().__init__(inputs=network.inputs, outputs=maps, **kwargs)
        self.network = network
        self.pyramid_outputs = maps

    @classmethod
    def of(cls, backbone):
        """The levels of a model of `ResNet`, without its classifier."""
        return cls(features(backbone, [2**n for n in _LEVELS]))

    def get_config(self):
        config = super().get_config()
        config["network"] = keras.saving.serialize_keras_object(self.network)
        return config

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def with_plain_methods(cls):
    """Give a class that extends KerasHub's the methods of `keras.Model`.

    KerasHub's methods convert the data to a data set of TensorFlow or Grain,
    to add preprocessing. This package adds none, and passes its batches.
    """
    for name in (
        "fit",
        "evaluate",
        "predict",
        "train_on_batch",
        "test_on_batch",
        "predict_on_batch",
    ):
        setattr(cls, name, getattr(keras.Model, name))
    return cls


class LoadedAsSaved(Carded):
    """Base class of KerasHub's models, which are not compiled by default.

    KerasHub's constructors compile a model. When it is loaded, its optimizer
    would then expect variables that the file of an uncompiled model lacks.
    """

    @classmethod
    def from_config(cls, config, **arguments):
        return super().from_config({"compile": False, **config}, **arguments)


@keras.saving.register_keras_serializable("keras_dropblock")
@with_plain_methods
class DeepLabSegmenter(LoadedAsSaved, keras_hub.models.DeepLabV3ImageSegmenter):
    """KerasHub's segmenter for integer masks, which keeps its card.

    KerasHub's default loss and metric are for one-hot masks. Here the default
    loss is that of integer masks, without pixels of class 255, and there are
    no metrics by default.
    """

    def compile(self, optimizer="auto", loss="auto", *, metrics=None, **kwargs):
        if loss == "auto":
            loss = mask_loss()
        super().compile(optimizer, loss, metrics=metrics, **kwargs)


def DeepLab(
    backbone, num_classes, *, dilation_rates=(6, 12, 18), name="deeplab"
):
    """KerasHub's DeepLabV3+ on a backbone of this package.

    The atrous pyramid reads stride 32, because the backbones are not dilated
    (the paper of DeepLabV3+ uses 16 or 8). The decoder reads stride 4.

    Args:
        backbone: a model of `ResNet` with channels last, whose height and
            width are multiples of 32 pixels. Its layers are shared.
        num_classes: number of classes, int >= 2.
        dilation_rates: of the atrous pyramid, in pixels of stride 32.
        name: name of the model.

    Returns:
        A `keras_hub.models.DeepLabV3ImageSegmenter` from normalized images to
        logits (batch, height, width, num_classes). `compile(optimizer)` sets
        the loss for integer masks, in which 255 is not labeled.

    Raises:
        ValueError: for a backbone without these levels or of another size.

    Reference:
        Chen et al. 2018, https://arxiv.org/abs/1802.02611.
    """
    check_size(backbone)
    body = keras_hub.models.DeepLabV3Backbone(
        PyramidBackbone.of(backbone),
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=list(dilation_rates),
        low_level_feature_key="P2",
        image_shape=image_shape(backbone),
        name="pyramid",
    )
    return DeepLabSegmenter(body, num_classes, compile=False, name=name)
