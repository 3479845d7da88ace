import keras
import numpy as np
import pytest

from keras_dropblock.tasks import losses
from keras_dropblock.tasks.fcn import mask_loss

HUBER = {"delta": 0.2}
FOCAL = {"apply_class_balancing": True, "gamma": 1.5, "from_logits": True}


def arrays(seed=0, rows=4):
    """x, and y in {0, 1}: (rows, 5 anchors, 3 values); weights of anchors."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5, 3)).astype("float32")
    y = rng.integers(0, 2, (rows, 5, 3)).astype("float32")
    return x, y, rng.uniform(size=(rows, 5)).astype("float32")


PAIRS = [
    (losses.SummedHuber, keras.losses.Huber, HUBER),
    (losses.SummedFocalLoss, keras.losses.BinaryFocalCrossentropy, FOCAL),
]


@pytest.mark.parametrize("summed, kerass, options", PAIRS)
def test_the_losses_equal_the_sums_of_keras(summed, kerass, options):
    x, y, weights = arrays()
    loss = summed(**options)
    same = type(loss).from_config(loss.get_config())
    wanted = kerass(**options, reduction="sum")(y, x, weights)
    for given in (loss, same):
        assert float(given(y, x, weights)) == pytest.approx(
            float(wanted), rel=1e-5
        )
    assert float(loss(y, x, 0 * weights)) == 0


def one_step(loss, x, y, weights):
    """Kernel after a step of SGD from the same kernel, and what is logged."""
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Dense(3, use_bias=False)]
    )
    model.layers[0].set_weights([np.float32(np.diag([1.0, -0.5, 2.0]))])
    model.compile(keras.optimizers.SGD(1.0), loss)
    logged = model.fit(
        x, y, len(x), 1, verbose=0, shuffle=False, sample_weight=weights
    )
    return model.get_weights()[0], logged.history["loss"][0]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("summed, kerass, options", PAIRS)
def test_a_step_of_two_replicas_is_the_mean_of_their_steps(
    summed, kerass, options, two_replicas
):
    data = arrays()
    halves = [
        one_step(summed(**options), *(x[rows] for x in data))
        for rows in (slice(2), slice(2, 4))
    ]
    with two_replicas.scope():
        both = one_step(summed(**options), *data)
    kernels = [kernel for kernel, _ in halves]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    np.testing.assert_allclose(both[0], np.mean(kernels, 0), atol=1e-5)
    assert both[1] == pytest.approx(np.mean([x for _, x in halves]), rel=1e-5)


@pytest.mark.tensorflow_only
def test_replicas_average_the_means_over_their_labeled_pixels(two_replicas):
    """Not the mean over the batch, if they have unlike numbers of pixels."""
    x, *_ = arrays()
    y = np.argmax(arrays(1)[0], -1)
    y[0, :4] = y[1, 1:] = 255  # 2 labeled pixels; the other half has 10
    halves = [
        one_step(mask_loss(), x[rows], y[rows], None)
        for rows in (slice(2), slice(2, 4))
    ]
    whole = one_step(mask_loss(), x, y, None)
    with two_replicas.scope():
        both = one_step(mask_loss(), x, y, None)
    kernels = [kernel for kernel, _ in halves]
    np.testing.assert_allclose(both[0], np.mean(kernels, 0), atol=1e-5)
    assert both[1] == pytest.approx(np.mean([x for _, x in halves]), rel=1e-5)
    assert np.abs(both[0] - whole[0]).max() > 0.01
