"""SGD, weight decay and the learning rate behave as in Torch."""

import keras
import numpy as np
import pytest

from keras_dropblock import models
from keras_dropblock.optimizers import (
    SGD,
    cosine_schedule,
    couple_weight_decay,
    drop_steps,
    step_schedule,
)


def torch_sgd(w, gradients, rates, momentum=0.9, nesterov=True):
    """Torch's optim.SGD, implemented from its documentation."""
    velocity, path = np.zeros_like(w), []
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = momentum * velocity + gradient
        w = w - rate * (
            gradient + momentum * velocity if nesterov else velocity
        )
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_torchs_across_a_drop_of_the_rate(nesterov):
    rng = np.random.default_rng(0)
    w = rng.normal(size=5).astype("float32")
    gradients = rng.normal(size=(60, 5)).astype("float32")
    schedule = step_schedule(0.1, drop_steps((3, 5), 10), 0.2)
    rates = [0.1] * 20 + [0.02] * 20 + [0.004] * 20
    variable = keras.Variable(w)
    optimizer = SGD(schedule, momentum=0.9, nesterov=nesterov)
    path = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        path.append(keras.ops.convert_to_numpy(variable).copy())
    expected = torch_sgd(w, gradients, rates, nesterov=nesterov)
    assert np.allclose(path, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_gradient_slows_at_once_when_the_rate_drops():
    # The velocity is 10 when the rate drops from .1 to .02. With Torch, each
    # step is then .02 * (1 + .9 * 10) = .2. With Keras's SGD, the first step
    # is still .85.
    variable = keras.Variable(0.0)
    optimizer = SGD(step_schedule(0.1, (200,), 0.2), 0.9, nesterov=True)
    path = []
    for _ in range(202):
        optimizer.apply([keras.ops.convert_to_tensor(1.0)], [variable])
        path.append(float(keras.ops.convert_to_numpy(variable)))
    assert path[200] - path[199] == pytest.approx(-0.2, rel=1e-3)


class Trajectory(keras.callbacks.Callback):
    """Records all weights as one vector after every step."""

    def __init__(self):
        super().__init__()
        self.path = []

    def on_train_batch_end(self, batch, logs=None):
        self.path.append(
            np.concatenate([w.ravel() for w in self.model.get_weights()])
        )


def trajectory_of_torch(weights, x, y, reset_momentum):
    """Three epochs of 30 steps of torch.optim.SGD at rates .1, .02, .004."""
    torch = pytest.importorskip("torch")
    kernel, bias, kernel_2, bias_2 = parameters = [
        torch.tensor(w, dtype=torch.float64, requires_grad=True)
        for w in weights
    ]

    def optimizer(rate):
        return torch.optim.SGD(
            parameters, rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    sgd, path = optimizer(0.1), []
    for epoch in range(1, 11):
        if rate := {4: 0.02, 8: 0.004}.get(epoch):
            sgd.param_groups[0]["lr"] = rate
            if reset_momentum:
                sgd = optimizer(rate)
        for batch in range(30):
            here = slice(4 * batch, 4 * batch + 4)
            inputs = torch.tensor(x[here], dtype=torch.float64)
            outputs = torch.tanh(inputs @ kernel + bias) @ kernel_2 + bias_2
            loss = ((outputs - torch.tensor(y[here])) ** 2).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            path.append(
                np.concatenate([p.detach().numpy().ravel() for p in parameters])
            )
    return np.array(path)


@pytest.mark.parametrize("reset_momentum", [False, True])
def test_a_network_trains_as_in_torch_across_two_drops(reset_momentum):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "tanh", bias_initializer="he_normal"),
            keras.layers.Dense(3, bias_initializer="he_normal"),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype("float32")
    y = np.sin(x[:, :3] * 2 + x[:, 3:]).astype("float32")
    expected = trajectory_of_torch(model.get_weights(), x, y, reset_momentum)

    couple_weight_decay(model, 5e-4)
    optimizer = SGD(
        step_schedule(0.1, drop_steps((4, 8), 30), 0.2),
        0.9,
        nesterov=True,
        reset_momentum_at=drop_steps((4, 8), 30) if reset_momentum else (),
    )
    model.compile(optimizer, "mse")
    trajectory = Trajectory()
    model.fit(
        x,
        y,
        batch_size=4,
        epochs=10,
        shuffle=False,
        verbose=0,
        callbacks=[trajectory],
    )
    errors = np.linalg.norm(trajectory.path - expected, axis=1)
    assert len(errors) == 300
    assert (errors / np.linalg.norm(expected, axis=1)).max() < 1e-5


@pytest.mark.parametrize("jit_compile", [False, True])
def test_momentum_is_reset_at_the_first_step_of_the_drop(jit_compile):
    # The gradient is always 1: the velocity is 1, 1.9, 2.71, then 1 again.
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.layers[0].kernel.assign([[0.0]])
    optimizer = SGD(1.0, 0.9, reset_momentum_at=drop_steps((2, 3), 3))
    model.compile(
        optimizer, lambda y, p: keras.ops.mean(p), jit_compile=jit_compile
    )
    trajectory, x = Trajectory(), np.ones((9, 1), "float32")
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[trajectory])
    steps = -np.diff(np.ravel(trajectory.path), prepend=0.0)
    assert steps == pytest.approx([1, 1.9, 2.71] * 3)


def test_no_momentum_is_plain_gradient_descent():
    variable = keras.Variable(1.0)
    SGD(0.5).apply([keras.ops.convert_to_tensor(1.0)], [variable])
    assert float(keras.ops.convert_to_numpy(variable)) == 0.5


def test_weight_decay_is_torchs_and_not_that_of_keras():
    """200 steps at rate .1, where weight decay gives the only gradient.

    With 5e-4 in Torch, .90816 of the weight is left (measured with Torch).
    With Keras's `weight_decay=5e-4`, (1 - .1 * 5e-4)^200 = .99005 is left.
    """

    def after_200_steps(optimizer, weight_decay):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.layers[0].kernel.assign([[1.0]])
        couple_weight_decay(model, weight_decay)
        model.compile(optimizer, lambda y, p: keras.ops.mean(p) * 0.0)
        x = np.ones((200, 1), "float32")
        model.fit(x, x, batch_size=1, verbose=0)
        return float(keras.ops.convert_to_numpy(model.layers[0].kernel)[0, 0])

    nesterov = {"momentum": 0.9, "nesterov": True}
    coupled = after_200_steps(SGD(0.1, **nesterov), 5e-4)
    assert coupled == pytest.approx(0.90816, abs=2e-5)
    keras_coupled = keras.optimizers.SGD(0.1, **nesterov)
    assert after_200_steps(keras_coupled, 5e-4) == pytest.approx(
        coupled, abs=1e-5
    )
    for decay, left in ((5e-4, 0.99005), (5e-3, 0.9048)):
        decoupled = keras.optimizers.SGD(0.1, weight_decay=decay, **nesterov)
        assert after_200_steps(decoupled, 0.0) == pytest.approx(left, abs=5e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_every_variable_decays_and_the_sum_is_float32(policy):
    keras.config.set_dtype_policy(policy)
    model = models.WRN(10, 1, keep_prob=0.9)
    couple_weight_decay(model, 5e-4)
    expected = sum(
        2.5e-4 * np.square(keras.ops.convert_to_numpy(v), dtype="float64").sum()
        for v in model.trainable_variables
    )
    assert len(model.losses) == len(model.trainable_variables)
    assert {keras.backend.standardize_dtype(x.dtype) for x in model.losses} == {
        "float32"
    }
    total = float(keras.ops.convert_to_numpy(sum(model.losses)))
    assert total == pytest.approx(expected, rel=1e-5)
    couple_weight_decay(model, 5e-4, norms=False)
    convs, dense = 3 * 2 + 1 + 2, 2  # blocks + stem + shortcuts; W and b
    assert len(model.losses) == convs + dense
    couple_weight_decay(model, 0.0)
    assert model.losses == []


def test_the_rate_drops_at_the_beginning_of_its_epoch():
    # The official log has rate .1 in epoch 59, .02 in 60 to 119, .004 from 120
    # and .0008 from 160. An epoch has 390 steps, because the last partial
    # batch is left out.
    schedule = step_schedule(0.1, drop_steps((60, 120, 160), 390), 0.2)
    for step, rate in (
        (0, 0.1),
        (59 * 390 - 1, 0.1),
        (59 * 390, 0.02),
        (119 * 390 - 1, 0.02),
        (119 * 390, 0.004),
        (159 * 390, 0.0008),
        (200 * 390, 0.0008),
    ):
        value = keras.ops.convert_to_numpy(schedule(step))
        assert float(value) == pytest.approx(rate), step


def test_no_drops_are_a_constant_rate():
    assert step_schedule(0.1, (), 0.2) == 0.1


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_cosine_falls_from_the_rate_to_zero(warmup):
    schedule = cosine_schedule(0.1, 12, warmup_steps=warmup)
    rates = [float(keras.ops.convert_to_numpy(schedule(i))) for i in range(13)]
    rise = [0.1 * i / 4 for i in range(warmup)]
    steps = 12 - warmup
    fall = [0.05 * (1 + np.cos(np.pi * i / steps)) for i in range(steps + 1)]
    assert rates == pytest.approx([*rise, *fall], abs=1e-7)


@pytest.mark.parametrize("drops", [(), (6,)])
def test_the_rate_rises_linearly_over_the_warm_up(drops):
    # Batch 1,024 of ImageNet: 0.4 after 5 epochs of 1,251 steps.
    schedule = step_schedule(
        0.4, drop_steps(drops, 1251), 0.1, warmup_steps=5 * 1251
    )
    for step, rate in (
        (0, 0.0),
        (1251, 0.08),
        (5 * 1251 - 1, 0.4 * (1 - 1 / 6255)),
        (5 * 1251, 0.04 if drops else 0.4),
    ):
        value = keras.ops.convert_to_numpy(schedule(step))
        assert float(value) == pytest.approx(rate), step


def test_the_optimizer_survives_its_config():
    optimizer = SGD(
        step_schedule(0.1, (10,), 0.2, warmup_steps=10),
        0.9,
        True,
        reset_momentum_at=(10,),
        clipnorm=1.0,
    )
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert isinstance(copy, SGD) and copy.get_config() == optimizer.get_config()
    assert copy.reset_momentum_at == (10,) and copy.clipnorm == 1.0
