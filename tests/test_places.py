"""Places of regularizers in a block, checked by a formula in NumPy.

Each random layer has a copy with the same seed and state. The copy is applied
to ones. Its output is the factor by which the layer multiplies its input.
"""

import keras
import numpy as np
import pytest

from keras_dropblock.layers import PostActivationBlock, PreActivationBlock

EVERY = {
    "keep_prob": 0.7,
    "block_size": 3,
    "dropout": 0.3,
    "spatial_dropout": 0.3,
    "shortcut_dropout": 0.3,
    "survival_prob": 0.5,
}
OPTIONS = {
    "none": {},
    "DropBlock": {"keep_prob": 0.7, "block_size": 3},
    "DropBlock, not on the shortcut": {
        "keep_prob": 0.7,
        "block_size": 2,
        "dropblock_skip": False,
    },
    "Dropout": {"dropout": 0.3},
    "SpatialDropout2D": {"spatial_dropout": 0.3},
    "Dropout on the shortcut": {"shortcut_dropout": 0.3},
    "stochastic depth": {"survival_prob": 0.5},
    "every": EVERY,
}
KERNELS = {"basic": (3, 3), "bottleneck": (1, 3, 1), "B(3,1,3)": (3, 1, 3)}
# Filters and stride of blocks whose input has 8 channels.
SHORTCUTS = {"identity": (8, 1), "wider": (12, 1), "strided": (12, 2)}


def array(x):
    return keras.ops.convert_to_numpy(x)


class Formula:
    """Operations of a block in float64, with the factors of random layers."""

    def __init__(self, block, options):
        self.on = {
            "dropblock": options.get("keep_prob", 1) < 1,
            "dropblock_shortcut": options.get("keep_prob", 1) < 1
            and options.get("dropblock_skip", True),
            "dropout": options.get("dropout"),
            "spatial_dropout": options.get("spatial_dropout"),
            "dropout_shortcut": options.get("shortcut_dropout"),
            "stochastic_depth": options.get("survival_prob", 1) < 1,
        }
        self.weights = {
            "/".join(v.path.split("/")[-2:]): array(v).astype("float64")
            for v in block.weights
        }
        self.layers = {
            layer.name: (layer, array(layer.seed_generator.state))
            for layer in block._flatten_layers()
            if hasattr(layer, "seed_generator")
        }
        self.used = []

    def conv(self, x, name, stride):
        kernel = self.weights[f"{name}/kernel"]
        side = len(kernel)
        pad = side // 2
        padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (side, side), axis=(1, 2)
        )[:, ::stride, ::stride]
        return np.einsum("nijchw,hwcf->nijf", windows, kernel)

    def norm(self, x, name):
        """Batch normalization in training, by statistics of the batch."""
        gamma, beta = (self.weights[f"{name}/{w}"] for w in ("gamma", "beta"))
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def at(self, name, x):
        """Apply the random layer of this name to x, if it is on."""
        if not self.on[name.rstrip("123")]:
            return x
        layer, state = self.layers[name]
        twin = type(layer).from_config(layer.get_config())
        twin.seed_generator.state.assign(state)
        factor = array(twin(np.ones(x.shape, "float32"), training=True))
        assert 0 < (factor == 0).mean() < 1, name
        self.used.append(name)
        return x * factor


def relu(x):
    return np.maximum(x, 0)


def pre_activation(formula, x, kernels, stride, projection):
    y = relu(formula.norm(x, "bn1"))
    # A projection reads the pre-activation, an identity the raw input.
    skip = formula.conv(y, "shortcut", stride) if projection else x
    y = formula.conv(y, "conv1", stride)
    for i in range(2, len(kernels) + 1):
        y = relu(formula.norm(y, f"bn{i}"))
        if i == 2:
            y = formula.at("dropblock1", y)
        y = formula.at(f"dropout{i - 1}", y)
        y = formula.at(f"spatial_dropout{i - 1}", y)
        y = formula.conv(y, f"conv{i}", 1)
    skip = formula.at("dropout_shortcut", skip)
    skip = formula.at("dropblock_shortcut", skip)
    return formula.at("stochastic_depth", y) + skip


def post_activation(formula, x, kernels, stride, projection):
    if projection:
        skip = formula.norm(formula.conv(x, "shortcut", stride), "shortcut_bn")
    else:  # option A: every other unit, and zeros for the added channels
        channels = formula.weights[f"bn{len(kernels)}/gamma"].size
        more = (0, channels - x.shape[-1])
        skip = np.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [more])
    y, last = x, len(kernels)
    for i in range(1, last + 1):
        strided = i - 1 == kernels.index(3)
        y = formula.conv(y, f"conv{i}", stride if strided else 1)
        y = formula.norm(y, f"bn{i}")
        y = relu(y) if i < last else y
        y = formula.at(f"dropblock{i}", y)
        if i < last:
            y = formula.at(f"dropout{i}", y)
            y = formula.at(f"spatial_dropout{i}", y)
    skip = formula.at("dropout_shortcut", skip)
    skip = formula.at("dropblock_shortcut", skip)
    return relu(formula.at("stochastic_depth", y) + skip)


BLOCKS = {
    "pre": (PreActivationBlock, pre_activation),
    "post": (PostActivationBlock, post_activation),
}


def made(block, kernels, filters, stride, options):
    """A block with random weights, also in its norms."""
    block = block(filters, kernels, inner_filters=6, strides=stride, **options)
    block.build((None, 9, 7, 8))
    rng = np.random.default_rng(0)
    for variable in block.trainable_variables:
        variable.assign(rng.normal(0.3, 0.5, variable.shape))
    return block


CASES = [
    *((k, s, "every") for k in ("basic", "bottleneck") for s in SHORTCUTS),
    ("B(3,1,3)", "strided", "every"),
    *(("bottleneck", "strided", alone) for alone in OPTIONS),
]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("kernels, shortcut, options", dict.fromkeys(CASES))
def test_a_block_in_training_equals_its_formula(
    kind, kernels, shortcut, options
):
    block, formula = BLOCKS[kind]
    kernels, options = KERNELS[kernels], OPTIONS[options]
    filters, stride = SHORTCUTS[shortcut]
    block = made(block, kernels, filters, stride, options)
    x = np.random.default_rng(1).normal(size=(32, 9, 7, 8)).astype("float32")
    steps = Formula(block, options)
    y = array(block(x, training=True))
    expected = formula(steps, x, kernels, stride, shortcut != "identity")
    # Values are normalized sums of up to 72 products, so a tolerance of 1e-5
    # of the largest is enough.
    assert np.allclose(y, expected, atol=1e-5 * abs(expected).max(), rtol=1e-4)
    # Each random layer is used exactly once.
    assert sorted(steps.used) == sorted(steps.layers)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("kernels", KERNELS)
def test_at_inference_regularizers_have_no_effect(kind, kernels):
    block, _ = BLOCKS[kind]
    plain, every = (
        made(block, KERNELS[kernels], 12, 2, options) for options in ({}, EVERY)
    )
    x = np.random.default_rng(1).normal(size=(4, 9, 7, 8)).astype("float32")
    assert np.array_equal(array(every(x)), array(plain(x)))
    assert np.array_equal(array(every(x, training=False)), array(plain(x)))
    assert not np.allclose(array(every(x, training=True)), array(plain(x)))


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_without_parameters_has_the_same_places(shortcut):
    filters, stride = SHORTCUTS[shortcut]
    options = {**EVERY, "projection": False}
    block = made(PostActivationBlock, (3, 3), filters, stride, options)
    x = np.random.default_rng(1).normal(size=(32, 9, 7, 8)).astype("float32")
    steps = Formula(block, options)
    y = array(block(x, training=True))
    expected = post_activation(steps, x, (3, 3), stride, False)
    assert np.allclose(y, expected, atol=1e-5 * abs(expected).max(), rtol=1e-4)
    assert sorted(steps.used) == sorted(steps.layers)
