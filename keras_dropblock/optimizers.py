"""SGD and weight decay that mean what they mean in Torch and the papers."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dropblock")
class SGD(keras.optimizers.SGD):
    """SGD with momentum that steps as Torch's does when the rate changes.

    `v = momentum * v + g`, then `w -= rate * (g + momentum * v)` with
    `nesterov=True`, or `w -= rate * v`. Keras multiplies the rate into the
    velocity instead: equal while the rate stays, but after a drop to a fifth
    it goes on at almost the old speed for tens of steps.

    Args:
        learning_rate, momentum, nesterov, **arguments: those of
            `keras.optimizers.SGD`. Its `weight_decay` is decoupled, Torch's
            and the papers' is not: use `couple_weight_decay`.
        reset_momentum_at: values of `iterations`, ints >= 0, whose step
            starts from a velocity of 0, as that of a new optimizer does. The
            Wide ResNet code makes a new one at each drop of the rate: see
            `drop_steps`.

    Reference:
        Sutskever et al. 2013, section 2, in the form of Torch's `optim.sgd`
        with dampening 0, as used by Zagoruyko and Komodakis 2016.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        *,
        reset_momentum_at=(),
        **arguments,
    ):
        super().__init__(learning_rate, momentum, nesterov, **arguments)
        self.reset_momentum_at = tuple(reset_momentum_at)

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        step = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            step = velocity * self._kept(variable.dtype) + gradient
            self.assign(velocity, step)
            if self.nesterov:
                step = gradient + step * self.momentum
        self.assign_sub(variable, learning_rate * step)

    def _kept(self, dtype):
        """The share of the velocity that goes into this step."""
        if not self.reset_momentum_at:
            return self.momentum
        # A function of the iterations alone, so it survives a resumed run.
        resets = ops.any(
            ops.equal(self.iterations, list(self.reset_momentum_at))
        )
        return ops.cast(ops.where(resets, 0.0, self.momentum), dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "reset_momentum_at": list(self.reset_momentum_at),
        }


def couple_weight_decay(model, weight_decay, *, norms=True):
    """Give every trainable variable the L2 loss of Torch's weight decay.

    Torch adds `weight_decay * w` to the gradient of each parameter: kernels,
    biases, and batch normalisation's gamma and beta alike. That is the
    gradient of `weight_decay / 2 * sum(w^2)`. Keras's `weight_decay` argument
    is another thing: it shrinks weights past the momentum.

    Args:
        model: a built model; its variables' regularizers are replaced.
        weight_decay: Torch's, >= 0. The paper's is 5e-4.
        norms: whether normalisation's gamma and beta decay too. In the code
            of the DropBlock paper they do not.
    """
    regularizer = (
        keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    )
    for variable in model.trainable_variables:
        decays = norms or variable.name not in ("gamma", "beta")
        variable.regularizer = regularizer if decays else None


def drop_steps(drops, steps_per_epoch):
    """The value of `optimizer.iterations` as each of the epochs begins.

    Args:
        drops: epochs, counted from 1.
        steps_per_epoch: optimizer steps in an epoch.
    """
    return [(epoch - 1) * steps_per_epoch for epoch in drops]


def step_schedule(
    learning_rate, drops, factor, steps_per_epoch, *, warmup_epochs=0
):
    """A learning rate that is multiplied by `factor` as given epochs begin.

    Args:
        learning_rate: of the first epochs.
        drops: epochs, counted from 1, at whose first step the rate drops. The
            paper's code drops at 60, 120 and 160: after 59 epochs, not 60.
        factor: the paper's is 0.2.
        steps_per_epoch: optimizer steps in an epoch.
        warmup_epochs: epochs in which the rate rises linearly from 0, step by
            step.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule` of
        `optimizer.iterations`, so that it survives a resumed run; without
        drops and warm-up `learning_rate` itself.
    """
    rate = learning_rate
    if drops:
        # Keras holds a value up to and including its boundary.
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [step - 1 for step in drop_steps(drops, steps_per_epoch)],
            [learning_rate * factor**i for i in range(len(drops) + 1)],
        )
    if warmup_epochs:
        rate = Warmup(rate, warmup_epochs * steps_per_epoch)
    return rate


@keras.saving.register_keras_serializable("keras_dropblock")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0 to that of a schedule.

    Args:
        rate: a number, or a `LearningRateSchedule`.
        steps: optimizer steps of the rise, int >= 1.

    Reference:
        Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2.
    """

    def __init__(self, rate, steps):
        super().__init__()
        self.rate = rate
        self.steps = steps

    def __call__(self, step):
        rate = self.rate(step) if callable(self.rate) else self.rate
        rise = ops.cast(step, "float32") / self.steps
        return rate * ops.minimum(rise, 1.0)

    def get_config(self):
        return {
            "rate": keras.saving.serialize_keras_object(self.rate),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config):
        rate = keras.saving.deserialize_keras_object(config["rate"])
        return cls(rate, config["steps"])
