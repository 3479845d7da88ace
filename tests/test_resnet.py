"""ResNets, pre-activation ResNets, and the layers of their blocks."""

import math

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.layers import (
    Dropout,
    PostActivationBlock,
    PreActivationBlock,
    SpatialDropout2D,
    StochasticDepth,
    dropblock_layers,
)
from keras_dropblock.layers.convolution import SymmetricConv2D
from keras_dropblock.layers.dropout import survival_probs


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def array(x):
    return keras.ops.convert_to_numpy(x)


# --- sizes


@pytest.mark.parametrize(
    "depth, width, parameters",
    [
        (18, 1, 11_689_512),
        (18, 1.5, 25_875_816),
        (18, 2, 45_618_216),
        (18, 3, 101_783_976),
        (34, 1, 21_797_672),
        (34, 1.5, 48_613_608),
        (34, 2, 86_036_008),
        (50, 1, 25_557_032),
        (101, 1, 44_549_160),
        (152, 1, 60_192_808),
        (50, 2, 68_883_240),
        (101, 2, 126_886_696),
    ],
)
def test_imagenet_networks_have_the_parameters_of_the_papers(
    depth, width, parameters
):
    assert trainable(models.ResNet(depth, width)) == parameters
    keras.utils.clear_session()


def bottleneck_parameters(depth):
    """Parameters of pre-activation bottlenecks: (convs and dense, BN)."""
    n, channels, convs, norms = (depth - 2) // 9, 16, 3 * 9 * 16, 0
    for c in (16, 32, 64):
        for i in range(n):
            ins = channels if i == 0 else 4 * c
            convs += ins * c + 9 * c * c + c * 4 * c
            norms += 2 * (ins + c + c)
        convs += channels * 4 * c  # shortcut of the first block
        channels = 4 * c
    return convs + channels * 10 + 10, norms + 2 * channels


@pytest.mark.parametrize(
    "depth, parameters, millions",
    [(164, 1_703_258, 1.7), (1001, 10_327_706, 10.2)],
)
def test_preactivation_bottlenecks_have_their_parameters(
    depth, parameters, millions
):
    convs, norms = bottleneck_parameters(depth)
    assert convs + norms == parameters
    # The papers print 10.2 M for depth 1001, without batch normalization.
    assert convs / 1e6 == pytest.approx(millions, abs=0.05)
    assert trainable(models.PreActResNet(depth)) == parameters


def test_thin_basic_networks_have_1_7_million():
    # 110 = 6 * 18 + 2. There are 3 x 3 convs in the stem and 2 * 18 in each
    # group. The first conv of groups 2 and 3 has half as many input channels.
    convs = 9 * (
        3 * 16 + 36 * 16**2 + 35 * 32**2 + 35 * 64**2 + 16 * 32 + 32 * 64
    )
    dense = 64 * 10 + 10
    # BN: after the stem, and after every conv.
    norms = 2 * (16 + 36 * (16 + 32 + 64))
    assert trainable(models.CifarResNet(110)) == convs + dense + norms
    assert convs + dense + norms == 1_727_962
    # Pre-activation: one BN before every conv of a block and one at the end.
    # There are two 1 x 1 shortcuts.
    norms = 2 * (36 * 16 + 16 + 35 * 32 + 32 + 35 * 64 + 64)
    shortcuts = 16 * 32 + 32 * 64
    assert (
        trainable(models.PreActResNet(110)) == convs + dense + norms + shortcuts
    )


# --- structure


def test_names_and_strides_of_an_imagenet_network():
    model = models.ResNet(50, input_shape=(64, 96, 3))
    shapes = [
        model.get_layer(f"group{i}").output.shape[1:] for i in range(1, 5)
    ]
    assert shapes == [
        (16, 24, 256),
        (8, 12, 512),
        (4, 6, 1024),
        (2, 3, 2048),
    ]
    block = model.get_layer("group2_block1")
    assert [conv.strides[0] for conv in block.convs] == [1, 2, 1]
    assert [
        v.path for v in block.trainable_variables if "shortcut" in v.path
    ] == [
        "group2_block1/shortcut/kernel",
        "group2_block1/shortcut_bn/gamma",
        "group2_block1/shortcut_bn/beta",
    ]
    assert model.name == "resnet_50"
    assert (
        models.ResNet(18, 1.5, input_shape=(32, 32, 3)).name == "resnet_18_1p5"
    )


def test_a_post_activation_block_equals_its_formula():
    block = PostActivationBlock(8, (1, 3, 1), inner_filters=3, strides=2)
    x = keras.random.normal((2, 8, 6, 4), seed=0)
    block.build(x.shape)
    rng = np.random.default_rng(0)
    block.set_weights(
        [abs(rng.normal(size=w.shape)) for w in block.get_weights()]
    )
    y = x
    for i in range(3):
        y = block.norms[i](block.convs[i](y), training=False)
        y = keras.ops.relu(y) if i < 2 else y
    skip = block.shortcut_norm(block.shortcut(x), training=False)
    assert np.allclose(
        array(block(x)), array(keras.ops.relu(y + skip)), atol=1e-4
    )


def test_option_a_shortcuts_take_every_other_unit_and_add_zeros():
    block = PostActivationBlock(6, strides=2, projection=False)
    x = abs(keras.random.normal((2, 8, 6, 4), seed=0))
    block.build(x.shape)
    block.norms[-1].gamma.assign(np.zeros(6))  # the conv branch returns 0
    y = array(block(x))
    assert (
        np.allclose(y[..., :4], array(x)[:, ::2, ::2])
        and (y[..., 4:] == 0).all()
    )
    assert block.shortcut is None


def test_zero_init_starts_blocks_as_their_shortcuts():
    block = PostActivationBlock(4, zero_init=True)
    x = abs(keras.random.normal((2, 8, 8, 4), seed=0))
    assert np.allclose(array(block(x)), array(x))
    assert not np.allclose(array(PostActivationBlock(4)(x)), array(x))


def test_dropblock_has_four_places_in_a_bottleneck():
    model = models.ResNet(50, input_shape=(64, 64, 3), keep_prob=0.9)
    counts = {
        group: [
            [round(x.final_keep_prob, 6) for x in dropblock_layers(layer)]
            for layer in model.layers
            if layer.name.startswith(f"group{group}_")
        ]
        for group in (1, 2, 3, 4)
    }
    assert counts[1] == [[]] * 3 and counts[2] == [[]] * 4
    assert counts[3] == [[0.975] * 4] * 6 and counts[4] == [[0.9] * 4] * 3
    conv_only = models.ResNet(
        50, input_shape=(64, 64, 3), keep_prob=0.9, dropblock_skip=False
    )
    assert len(dropblock_layers(conv_only)) == 3 * 9
    one_group = models.ResNet(
        18,
        input_shape=(64, 64, 3),
        keep_prob=0.9,
        dropblock_groups=(4,),
        block_size=5,
    )
    assert len(dropblock_layers(one_group)) == 3 * 2  # two convs, a shortcut
    assert {x.block_size for x in dropblock_layers(one_group)} == {5}


# --- the other regularizers


def test_survival_falls_linearly_to_the_last_block():
    assert survival_probs(0.5, 4) == [0.875, 0.75, 0.625, 0.5]
    for model in (
        models.PreActResNet(20, bottleneck=True, survival_prob=0.4),
        models.WRN(16, 1, survival_prob=0.4),
        models.ResNet(18, 0.25, input_shape=(32, 32, 3), survival_prob=0.4),
    ):
        found = [
            layer.survival_prob
            for layer in model._flatten_layers()
            if isinstance(layer, StochasticDepth)
        ]
        assert found == pytest.approx(survival_probs(0.4, len(found)))
        assert found[-1] == pytest.approx(0.4)


def test_stochastic_depth_drops_whole_samples():
    layer = StochasticDepth(0.8, seed=1)
    y = array(layer(np.ones((4000, 3, 2, 5), "float32"), training=True))
    assert set(np.unique(y.astype("float64").round(5))) == {0.0, 1.25}
    assert (y == y[:, :1, :1, :1]).all()
    error = np.sqrt(0.8 * 0.2 / 4000)
    assert abs((y[:, 0, 0, 0] > 0).mean() - 0.8) < 5 * error
    x = keras.random.normal((3, 4))
    assert np.array_equal(array(layer(x)), array(x))
    copy = StochasticDepth.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "layer, shared",
    [(Dropout(0.3, seed=1), ()), (SpatialDropout2D(0.3, seed=1), (1, 2))],
)
def test_dropout_drops_at_its_rate_and_by_its_unit(layer, shared):
    y = array(layer(np.ones((200, 6, 5, 40), "float32"), training=True))
    assert set(np.unique(y.astype("float64").round(5))) == {
        0.0,
        round(1 / 0.7, 5),
    }
    draws = y[:, :1, :1] if shared else y
    assert (y == draws).all()
    error = np.sqrt(0.3 * 0.7 / draws.size)
    assert abs((draws == 0).mean() - 0.3) < 5 * error
    assert (array(layer(np.ones((2, 6, 5, 4)))) == 1).all()


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("cls", [Dropout, SpatialDropout2D, StochasticDepth])
def test_replicas_drop_different_units(cls, two_replicas):
    import tensorflow as tf

    with two_replicas.scope():
        layer = cls(0.5, seed=1)
    x = tf.ones((16, 4, 4, 16))
    step = tf.function(
        lambda: two_replicas.run(lambda: layer(x, training=True))
    )
    a, b = two_replicas.experimental_local_results(step())
    assert not np.array_equal(a, b)


def test_regularizers_are_in_the_right_places():
    pre = PreActivationBlock(
        4, (3, 1, 3), dropout=0.1, spatial_dropout=0.2, survival_prob=0.9
    )
    assert len(pre.dropouts) == len(pre.spatial_dropouts) == 2
    assert pre.stochastic_depth.survival_prob == 0.9
    plain = PreActivationBlock(4)
    assert not (plain.dropouts or plain.spatial_dropouts or plain.dropblocks)
    assert plain.stochastic_depth is plain.dropblock_shortcut is None


def test_a_dropped_branch_leaves_the_shortcut():
    block = PreActivationBlock(4, survival_prob=1e-6)
    x = keras.random.normal((8, 6, 6, 4), seed=0)
    assert np.allclose(array(block(x, training=True)), array(x))
    assert not np.allclose(array(block(x)), array(x))


# --- notation and errors


@pytest.mark.parametrize(
    "notation, parameters",
    [
        ("ResNet-18", 11_689_512),
        ("ResNet-18-1.5", 25_875_816),
        ("WRN-50-2-bottleneck", 68_883_240),
        ("PreActResNet-164", 1_703_258),
        ("CifarResNet-110", 1_727_962),
        ("CifarResNet-20-B", 272_474),  # as published for CIFAR-10
    ],
)
def test_notation_reaches_every_builder(notation, parameters):
    assert trainable(models.from_notation(notation)) == parameters


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: models.ResNet(49), "`depth` must be one of .*mean 50"),
        (lambda: models.ResNet(18, 0), "`width` must be a factor > 0"),
        (lambda: models.ResNet(18, 0.33), "`width` must be a factor"),
        (lambda: models.ResNet(18, math.inf), "`width` must be a factor"),
        (
            lambda: models.ResNet(18, keep_prob=0.9, dropblock_groups=(5,)),
            "`dropblock_groups` must be",
        ),
        (
            lambda: models.CifarResNet(111),
            r"`depth` must be 6n \+ 2.*110 or 116",
        ),
        (
            lambda: models.CifarResNet(20, shortcut="B"),
            "`shortcut` must be 'padding' .*'projection'.*Received: "
            "shortcut='B'",
        ),
        (
            lambda: models.PreActResNet(165),
            r"`depth` must be 9n \+ 2.*164 or 173",
        ),
        (lambda: models.PreActResNet(111), r"6n \+ 2.*110 or 116"),
        (
            lambda: models.WRN(10, 1, survival_prob=0.0),
            "`survival_prob` must be",
        ),
        (lambda: models.WRN(10, 1, dropout=1.1), "`dropout` must be in"),
        (lambda: models.WRN(10, 1, keep_prob="0.9"), "`keep_prob` must be"),
        (
            lambda: models.WRN(10, 1, dropblock_groups=3),
            "`dropblock_groups` must",
        ),
        (lambda: PreActivationBlock(4, keep_prob=2.0), "`keep_prob` must be"),
        (lambda: StochasticDepth(0), "`survival_prob` must be"),
        (lambda: models.ResNet("50"), "`depth` must be an integer"),
        (lambda: models.ResNet(50, "2"), "`width` must be a factor"),
        (lambda: SymmetricConv2D(4, (3, 5)), "`kernel_size` must be odd"),
        (lambda: SymmetricConv2D(4, 2), "`kernel_size` must be odd"),
        (lambda: SymmetricConv2D(4, 3, (1, 2)), "`strides` must be the same"),
    ],
)
def test_arguments_out_of_range_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
