"""SGD and weight decay as defined in Torch and in the papers."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dropblock")
class SGD(keras.optimizers.SGD):
    """SGD with momentum that follows Torch when the learning rate changes.

    The update is `v = momentum * v + g`, then `w -= rate * v` or, with
    `nesterov=True`, `w -= rate * (g + momentum * v)`. Keras includes the rate
    in the velocity instead. Both are equal while the rate is constant. When
    the rate drops to a fifth, however, Keras continues at almost the old
    speed for tens of steps.

    Args:
        learning_rate, momentum, nesterov, **arguments: see
            `keras.optimizers.SGD`. Its `weight_decay` is decoupled. For the
            coupled weight decay of Torch and the papers, use
            `couple_weight_decay`.
        reset_momentum_at: values of `iterations`, ints >= 0. Their steps
            start with a velocity of 0, like the first step of a new
            optimizer. The Wide ResNet code creates a new optimizer at each
            drop of the learning rate: see `drop_steps`.
        learning_rate_factors: dict from the name of a layer to the factor of
            its learning rate, > 0, as in Torch's groups of parameters. Layers
            that are not named have the factor 1.

    Reference:
        Sutskever et al. 2013, section 2, in the form of Torch's `optim.sgd`
        with dampening 0, which Zagoruyko and Komodakis 2016 use.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        *,
        reset_momentum_at=(),
        learning_rate_factors=None,
        **arguments,
    ):
        super().__init__(learning_rate, momentum, nesterov, **arguments)
        self.reset_momentum_at = tuple(reset_momentum_at)
        self.learning_rate_factors = dict(learning_rate_factors or {})

    def build(self, variables):
        super().build(variables)
        self._factors = [self._factor(variable) for variable in variables]
        unknown = self.learning_rate_factors.keys() - {
            part for variable in variables for part in variable.path.split("/")
        }
        if unknown:
            raise ValueError(
                "`learning_rate_factors` must name layers that are trained. "
                f"Received: {', '.join(sorted(unknown))}."
            )

    def _factor(self, variable):
        parts = variable.path.split("/")
        for name, factor in self.learning_rate_factors.items():
            if name in parts:
                return factor
        return 1.0

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if self.learning_rate_factors:
            place = self._get_variable_index(variable)
            # Not `*=`, which would change the tensor that torch passes to all.
            learning_rate = learning_rate * self._factors[place]
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
        """Factor of the old velocity in this step: the momentum or 0."""
        if not self.reset_momentum_at:
            return self.momentum
        # It depends only on the iterations, so a resumed run gives the same.
        resets = ops.any(
            ops.equal(self.iterations, list(self.reset_momentum_at))
        )
        return ops.cast(ops.where(resets, 0.0, self.momentum), dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "reset_momentum_at": list(self.reset_momentum_at),
            "learning_rate_factors": self.learning_rate_factors,
        }


def couple_weight_decay(model, weight_decay, *, norms=True):
    """Add an L2 loss that is equal to Torch's weight decay.

    Torch adds `weight_decay * w` to the gradient of each parameter: kernels,
    biases, and also gamma and beta of batch normalization. This is the
    gradient of `weight_decay / 2 * sum(w^2)`. The `weight_decay` argument of
    Keras's optimizers is different: it shrinks the weights directly, without
    the momentum.

    Args:
        model: a built model. The regularizers of its trainable variables are
            replaced.
        weight_decay: the value for Torch, >= 0. The Wide ResNet paper uses
            5e-4.
        norms: whether to apply it to gamma and beta of normalization layers
            too. The code of the DropBlock paper does not.
    """
    regularizer = (
        keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    )
    for variable in model.trainable_variables:
        decays = norms or variable.name not in ("gamma", "beta")
        variable.regularizer = regularizer if decays else None


def drop_steps(drops, steps_per_epoch):
    """Values of `optimizer.iterations` at the beginning of the given epochs.

    Args:
        drops: epochs, counted from 1.
        steps_per_epoch: optimizer steps in an epoch.
    """
    return [(epoch - 1) * steps_per_epoch for epoch in drops]


def step_schedule(learning_rate, drops, factor, *, warmup_steps=0):
    """A learning rate that is multiplied by `factor` at given steps.

    Args:
        learning_rate: the rate before the first drop.
        drops: increasing values of `optimizer.iterations`. Each is the first
            step with the next rate: see `drop_steps`. If the optimizer
            accumulates gradients, Keras's schedules count batches, not
            updates; multiply the values by the number of batches.
        factor: factor of the rate at each drop; 0.2 in the Wide ResNet paper.
        warmup_steps: number of steps in which the rate rises linearly from 0.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`, which depends
        only on `optimizer.iterations` and so is the same in a resumed run.
        Without drops and warm-up, `learning_rate` itself.
    """
    rate = learning_rate
    if drops:
        # In Keras a value still applies at its boundary.
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [step - 1 for step in drops],
            [learning_rate * factor**i for i in range(len(drops) + 1)],
        )
    return Warmup(rate, warmup_steps) if warmup_steps else rate


def cosine_schedule(learning_rate, steps, *, warmup_steps=0):
    """A learning rate that falls along half a cosine to 0.

    Args:
        learning_rate: the rate at the start, or at the end of the warm-up.
        steps: optimizer steps of the whole training, including the warm-up.
        warmup_steps: number of steps in which the rate rises linearly from 0.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Reference:
        Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983,
        equation 5, without restarts.
    """
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(steps - warmup_steps, 1),
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


@keras.saving.register_keras_serializable("keras_dropblock")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose learning rate first rises linearly from 0.

    Args:
        rate: the learning rate without warm-up, a number or a
            `LearningRateSchedule`.
        steps: optimizer steps of the warm-up, int >= 1.

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
