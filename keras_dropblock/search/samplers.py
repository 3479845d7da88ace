"""Samplers and pruners of Optuna, made from the settings of a search."""

import numpy as np
import optuna

from keras_dropblock.search.space import points


def sampler_of(settings, space, seed):
    """A function from the place of a trial to its sampler.

    Each trial has a generator of its own, so it depends on the seed, its
    place and the earlier trials, but not on the worker.

    Args:
        settings: `settings.Settings`.
        space: dict from key to `Choice` or `Range`.
        seed: of the search, int.
    """
    if settings.sampler == "grid":
        parameters = [
            {
                key: dimension.stored(value)
                for (key, dimension), value in zip(
                    space.items(), point, strict=True
                )
            }
            for point in points({k: d.grid() for k, d in space.items()})
        ]
        return lambda place: Point(parameters[place % len(parameters)])
    kind = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }[settings.sampler]

    def make(place):
        (number,) = np.random.SeedSequence((seed, place)).generate_state(1)
        return kind(seed=int(number))

    return make


class Point(optuna.samplers.BaseSampler):
    """Gives one point, a dict from the names of parameters to their values.

    Optuna's `GridSampler` shuffles the grid, may give a point twice if several
    workers ask, and cannot be used without `Study.optimize`.
    """

    def __init__(self, parameters):
        self._parameters = parameters

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return self._parameters[name]


def pruner_of(settings, epochs):
    """The pruner of a search whose runs have this number of epochs."""
    if settings.pruner == "median":
        # No trial is pruned in the first tenth of its epochs.
        return optuna.pruners.MedianPruner(
            n_startup_trials=5, n_warmup_steps=epochs // 10
        )
    if settings.pruner == "hyperband":
        # After one of 200 epochs, scores are mostly noise. A first comparison
        # after 1/27 of the epochs gives four brackets, as Optuna recommends.
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, epochs // 27),
            max_resource=epochs,
            reduction_factor=3,
        )
    return optuna.pruners.NopPruner()
