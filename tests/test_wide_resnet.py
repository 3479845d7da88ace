"""WRN: sizes as in the papers, structure, names, weights, errors."""

import re

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.errors import WeightsError
from keras_dropblock.layers import PreActivationBlock, dropblock_layers
from keras_dropblock.models.notation import fewest_parameters, parse


def array(x):
    return keras.ops.convert_to_numpy(x)


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def expected_parameters(depth, width, classes=10, kernels=(3, 3), channels=3):
    """Number of parameters by arithmetic, to compare with the network."""
    step = 3 * len(kernels) if set(kernels) == {3} else 6
    n = (depth - 4) // step
    total, before = 9 * channels * 16, 16
    for group in range(3):
        after = 16 * width * 2**group
        for i in range(n):
            first = before if i == 0 else after
            ins = [first] + [after] * (len(kernels) - 1)
            total += sum(
                2 * c + k * k * c * after  # BN, conv
                for c, k in zip(ins, kernels, strict=True)
            )
            if i == 0 and (group > 0 or before != after):
                total += before * after  # 1x1 shortcut
        before = after
    return total + 2 * before + before * classes + classes


# --- sizes


@pytest.mark.parametrize(
    "depth, width, c10, c100",
    [
        (10, 1, 77_850, None),
        (16, 1, 175_066, None),
        (16, 4, 2_748_890, 2_772_020),
        (16, 8, 10_961_370, 11_007_540),
        (16, 10, 17_116_634, None),
        (22, 8, 17_158_106, None),
        (22, 10, 26_797_914, None),
        (28, 2, 1_467_610, None),
        (28, 8, 23_354_842, None),
        (28, 10, 36_479_194, 36_536_884),
        (28, 12, 52_517_850, None),
        (40, 1, 563_930, None),
        (40, 2, 2_243_546, None),
        (40, 4, 8_949_210, 8_972_340),  # the first is the official log's
        (40, 8, 35_748_314, None),
        (40, 10, 55_841_754, 55_899_444),
        (52, 1, 758_362, None),
    ],
)
def test_trainable_parameters_are_exact(depth, width, c10, c100):
    for classes, count in ((10, c10), (100, c100)):
        if count is not None:
            assert expected_parameters(depth, width, classes) == count
            model = models.WRN(depth, width, num_classes=classes)
            assert trainable(model) == count


@pytest.mark.parametrize(
    "notation, blocks, millions",
    [
        # Table 2: n = (depth - 4) / 6 for every block type.
        ("WRN-40-2-B(1,3,1)", 6, 1.4),
        ("WRN-40-2-B(3,1)", 6, 1.2),
        ("WRN-40-2-B(1,3)", 6, 1.3),
        ("WRN-40-2-B(3,1,1)", 6, 1.3),
        ("WRN-28-2-B(3,3)", 4, 1.5),
        ("WRN-22-2-B(3,1,3)", 3, 1.1),
        # Table 3: B(3) repeated l times, l = 1 to 4, where each conv counts.
        ("WRN-40-2-B(3)", 12, 2.2),
        ("WRN-40-2-B(3,3)", 6, 2.2),
        ("WRN-40-2-B(3,3,3)", 4, 2.2),
        ("WRN-40-2-B(3,3,3,3)", 3, 2.2),
    ],
)
def test_block_types_have_the_sizes_of_the_papers_tables(
    notation, blocks, millions
):
    model = models.from_notation(notation)
    in_groups = [x for x in model.layers if isinstance(x, PreActivationBlock)]
    assert len(in_groups) == 3 * blocks
    # The tolerance is for the rounding in the paper, which prints 1.15 M as
    # 1.1.
    assert trainable(model) / 1e6 == pytest.approx(millions, abs=0.0501)
    kernels = in_groups[0].kernel_sizes
    depth = int(notation.split("-")[1])
    assert trainable(model) == expected_parameters(depth, 2, kernels=kernels)


# --- structure


def test_depth_counts_convs_and_one_shortcut_a_group():
    # WRN-40: 3 groups * 6 blocks * 2 convs + 3 shortcuts + stem = 40
    model = models.WRN(40, 2)
    convs = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(convs) == 40


def test_layer_names_do_not_change():
    model = models.WRN(16, 1, keep_prob=0.9)
    assert [layer.name for layer in model.layers] == [
        "image",
        "stem",
        "group1_block1",
        "group1_block2",
        "group1",
        "group2_block1",
        "group2_block2",
        "group2",
        "group3_block1",
        "group3_block2",
        "group3",
        "bn",
        "relu",
        "pool",
        "logits",
    ]
    paths = [v.path for v in model.get_layer("group2_block1").weights]
    assert "group2_block1/conv1/kernel" in paths
    assert "group2_block1/shortcut/kernel" in paths
    assert "group2_block1/bn2/gamma" in paths
    assert model.name == "wrn_16_1"


def test_groups_halve_the_map_and_double_the_channels():
    model = models.WRN(10, 2, input_shape=(40, 24, 1), num_classes=7)
    shapes = [model.get_layer(f"group{i}").output.shape for i in (1, 2, 3)]
    assert shapes == [
        (None, 40, 24, 32),
        (None, 20, 12, 64),
        (None, 10, 6, 128),
    ]
    assert model.output.shape == (None, 7)


def test_unknown_image_sizes_are_accepted():
    model = models.WRN(10, 1, input_shape=(None, None, 3), keep_prob=0.9)
    for size in (32, 20):
        x = np.zeros((2, size, size, 3), "float32")
        assert model(x, training=True).shape == (2, 10)


def test_shortcut_is_the_identity_unless_the_shape_changes():
    blocks = {
        layer.name: layer
        for layer in models.WRN(16, 1).layers
        if isinstance(layer, PreActivationBlock)
    }
    with_conv = [n for n, block in blocks.items() if block.shortcut is not None]
    # Group 1 at width 1 goes from 16 to 16 channels.
    assert with_conv == ["group2_block1", "group3_block1"]
    assert models.WRN(16, 2).get_layer("group1_block1").shortcut is not None


def test_shortcut_conv_reads_the_shared_pre_activation():
    block = PreActivationBlock(8, strides=2)
    x = keras.random.normal((2, 8, 8, 4), seed=0)
    block.build(x.shape)
    for conv in block.convs:
        conv.kernel.assign(keras.ops.zeros(conv.kernel.shape))
    block.norms[0].gamma.assign(keras.ops.zeros((4,)))
    block.norms[0].beta.assign(keras.ops.ones((4,)))
    # With gamma = 0, the input of the shortcut is relu(beta) = 1 everywhere.
    y = keras.ops.convert_to_numpy(block(x))
    kernel = keras.ops.convert_to_numpy(block.shortcut.kernel)[0, 0]
    assert np.allclose(y, kernel.sum(0), atol=1e-6)


def test_identity_shortcut_reads_the_raw_input():
    block = PreActivationBlock(4)
    x = keras.random.normal((2, 8, 8, 4), seed=0)
    block.build(x.shape)
    block.convs[1].kernel.assign(keras.ops.zeros((3, 3, 4, 4)))
    assert np.allclose(array(block(x)), array(x))


def test_a_block_equals_its_formula():
    block = PreActivationBlock(6, (3, 1), strides=2)
    x = keras.random.normal((2, 8, 8, 4), seed=0)
    block.build(x.shape)

    def bn_relu(i, x):
        return keras.ops.relu(block.norms[i](x, training=False))

    pre = bn_relu(0, x)
    expected = block.convs[1](bn_relu(1, block.convs[0](pre)))
    expected = expected + block.shortcut(pre)
    assert np.allclose(array(block(x)), array(expected), atol=1e-6)


def test_batch_norm_has_torch_constants():
    for layer in models.WRN(10, 1)._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            # Torch's momentum 0.1 is Keras's 0.9.
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_convs_start_from_untruncated_he_fan_in():
    block = models.WRN(10, 4).get_layer("group3_block1")
    # From 128 to 256 channels, so that fan_in and fan_out differ.
    kernel = array(block.convs[0].kernel)
    assert kernel.shape == (3, 3, 128, 256)
    std = np.sqrt(2 / (9 * 128))
    # The sample std of n normal numbers has standard error std / sqrt(2n).
    assert abs(kernel.std() - std) < 5 * std / np.sqrt(2 * kernel.size)
    # With truncation at two deviations, no weight would exceed 2.28 std.
    assert abs(kernel).max() > 4 * std


# --- DropBlock


def test_dropblock_is_in_its_groups_at_quartered_rates():
    model = models.WRN(
        16, 1, keep_prob=0.9, block_size=5, dropblock_groups=(1, 2, 3)
    )
    kept = {
        layer.name: [x.final_keep_prob for x in dropblock_layers(layer)]
        for layer in model.layers
        if isinstance(layer, PreActivationBlock)
    }
    for group, keep_prob in ((3, 0.9), (2, 0.975), (1, 0.99375)):
        for i in (1, 2):  # on the conv branch and on the shortcut
            assert kept[f"group{group}_block{i}"] == pytest.approx(
                [keep_prob] * 2
            )
    assert {x.block_size for x in dropblock_layers(model)} == {5}
    assert len(dropblock_layers(models.WRN(16, 1, keep_prob=0.9))) == 8


def test_keep_prob_1_adds_no_dropblock():
    assert dropblock_layers(models.WRN(16, 1)) == []


def test_dropblock_acts_on_both_branches():
    block = PreActivationBlock(64, keep_prob=0.5, block_size=1)
    x = keras.ops.ones((2, 8, 8, 64))
    block.build(x.shape)
    zeros = keras.ops.zeros((3, 3, 64, 64))
    block.convs[1].kernel.assign(zeros)  # the skip alone is left
    skip = array(block(x, training=True))
    assert abs((skip == 0).mean() - 0.5) < 0.05
    # The second conv copies its input, so zeros of the input stay visible.
    center = np.zeros((3, 3, 64, 64), "float32")
    center[1, 1] = np.eye(64)
    block.convs[1].kernel.assign(center)
    block.convs[0].kernel.assign(zeros)
    block.norms[1].beta.assign(keras.ops.ones((64,)))
    branch = array(block(x, training=True))
    # Values are 0, scale or 2 * scale, because the two masks are independent.
    fractions = [(np.isclose(branch, k, atol=0.3)).mean() for k in (0, 2, 4)]
    assert np.allclose(fractions, [0.25, 0.5, 0.25], atol=0.05)


def test_weights_are_the_same_file_with_and_without_dropblock(tmp_path):
    plain = models.WRN(10, 1)
    dropped = models.WRN(10, 1, keep_prob=0.9, dropblock_groups=(1, 2, 3))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    path = str(tmp_path / "model.weights.h5")
    for source, target in ((plain, dropped), (dropped, plain)):
        for v in source.trainable_variables:
            v.assign(keras.random.normal(v.shape))
        for layer in dropblock_layers(source):
            layer.keep_prob = 0.5
        source.save_weights(path)
        target.load_weights(path)
        assert np.allclose(
            source.predict(x, verbose=0),
            target.predict(x, verbose=0),
            atol=1e-5,
        )
    # A file contains no keep_prob: it is not a weight.
    dropped.load_weights(path)
    assert max(x.keep_prob for x in dropblock_layers(dropped)) == 0.5


@pytest.mark.parametrize(
    "name, make",
    [
        ("absent", lambda path: None),
        ("a_text", lambda path: path.write_text("weights")),
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-1000])),
        # Only the signature of HDF5. h5py raises KeyError, Keras ValueError.
        ("flipped", lambda path: flip(path, b"TREE")),
        ("renamed", lambda path: flip(path, b"symmetric_conv2d")),
        ("wider", lambda path: models.WRN(10, 2).save_weights(path)),
        ("thinner", lambda path: models.CifarResNet(8).save_weights(path)),
    ],
)
def test_a_file_with_no_or_other_weights_raises_one_error(tmp_path, name, make):
    path = tmp_path / f"{name}.weights.h5"
    if name in ("cut", "flipped", "renamed"):
        models.WRN(10, 1).save_weights(path)
    make(path)
    with pytest.raises(WeightsError, match=f"{name}.weights.h5 ") as error:
        models.WRN(10, 1, weights=str(path))
    assert len(str(error.value)) < 1000


def flip(path, text):
    """Change the last occurrence of a text in a file."""
    content = path.read_bytes()
    head, found, tail = content.rpartition(text)
    assert found
    path.write_bytes(head + text[::-1] + tail)


def test_weights_argument_loads_a_file(tmp_path):
    source = models.WRN(10, 1)
    path = str(tmp_path / "model.weights.h5")
    source.save_weights(path)
    copy = models.WRN(10, 1, keep_prob=0.9, weights=path)
    for a, b in zip(
        source.trainable_variables, copy.trainable_variables, strict=True
    ):
        assert np.array_equal(a, b)


# --- notation and errors


def test_notation_names_the_same_network():
    a = models.from_notation("WRN-10-2-B(3,1,3)", num_classes=5)
    for block in ("B(3,1,3)", (3, 1, 3)):
        b = models.WRN(10, 2, block=block, num_classes=5)
        assert [v.shape for v in a.weights] == [v.shape for v in b.weights]
        assert [v.path for v in a.weights] == [v.path for v in b.weights]


@pytest.mark.parametrize(
    "notation",
    [
        "",
        "WRN-28",
        "wrn-28-10",
        "WRN-28-10-",
        "WRN-28-10-B",
        "28-10",
        "WRN-1000000-1",
        f"WRN-28-{'9' * 5000}",
        "WRN-２8-10",
        f"ResNet-50-{'9' * 400}",
        f"ResNet-{'9' * 5000}",  # infinite
    ],
    ids=lambda notation: notation[:15],
)
def test_unreadable_notation_is_refused(notation):
    with pytest.raises(ValueError, match=r"`notation` must read .*Received"):
        models.from_notation(notation)


@pytest.mark.parametrize(
    "notation, parameters",
    [
        # The numbers of the other tests of sizes.
        ("WRN-10-1", 77_850),
        ("WRN-28-10", 36_479_194),
        ("WRN-40-2-B(3,1)", 1_150_000),
        ("WRN-40-2-B(3)", 2_150_000),
        ("ResNet-18-1.5", 25_875_816),
        ("WRN-50-2-bottleneck", 68_883_240),
        ("PreActResNet-164", 1_703_258),
        ("CifarResNet-110", 1_727_962),
    ],
)
def test_fewest_parameters_are_at_most_50_times_too_few(notation, parameters):
    fewest = fewest_parameters(*parse(notation))
    assert parameters / 50 < fewest < parameters


@pytest.mark.parametrize(
    "arguments", [{}, {"depth": 4, "width": 1}, {"depth": "16", "width": 1}]
)
def test_fewest_parameters_is_0_for_invalid_arguments(arguments):
    assert fewest_parameters("WRN", arguments) == 0


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="keepprob"):
        models.from_notation("WRN-10-1", keepprob=0.9)


@pytest.mark.parametrize(
    "depth, block, nearest",
    [
        (27, "B(3,3)", "22 or 28"),
        (26, "B(3,3)", "22 or 28"),
        (4, "B(3,3)", "10"),
        (1, "B(3,3)", "10"),
        (38, "B(3,3,3)", "31 or 40"),
        (39, "B(3)", "37 or 40"),
        (27, "B(3,1,3)", "22 or 28"),
    ],
)
def test_a_wrong_depth_suggests_the_nearest_depths(depth, block, nearest):
    message = rf"`depth` must be .*depth={depth}.*mean {nearest}\?"
    with pytest.raises(ValueError, match=message):
        models.WRN(depth, 1, block=block)


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"depth": 28.5}, "depth"),
        ({"width": 0}, "width"),
        ({"width": 1.5}, "width"),
        ({"num_classes": 0}, "num_classes"),
        ({"block": "B(5,5)"}, "block"),
        ({"block": "3,3"}, "block"),
        ({"block": None}, "block"),
        ({"keep_prob": 1.5}, "keep_prob"),
        ({"keep_prob": 0.9, "block_size": 0}, "block_size"),
        ({"dropblock_groups": (3, 4)}, "dropblock_groups"),
        ({"dropout": 0.3, "block": "B(3)"}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, argument):
    arguments = {"depth": 10, "width": 1, **arguments}
    with pytest.raises(ValueError, match=f"`{re.escape(argument)}` "):
        models.WRN(arguments.pop("depth"), arguments.pop("width"), **arguments)


def test_the_layout_of_weights_files_does_not_change(tmp_path):
    """Files of earlier releases can be loaded only if these names stay."""
    import h5py

    path = tmp_path / "model.weights.h5"
    models.WRN(10, 1, keep_prob=0.9).save_weights(path)
    names = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                names.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert "layers/symmetric_conv2d/vars/0" in names
    block = "layers/pre_activation_block_1"
    assert {name for name in names if name.startswith(block + "/")} == {
        f"{block}/convs/symmetric_conv2d/vars/0",
        f"{block}/convs/symmetric_conv2d_1/vars/0",
        f"{block}/shortcut/vars/0",
        *(f"{block}/norms/batch_normalization/vars/{i}" for i in range(4)),
        *(f"{block}/norms/batch_normalization_1/vars/{i}" for i in range(4)),
    }
