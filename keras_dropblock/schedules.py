"""Schedules: progress of training in [0, 1] -> strength of DropBlock in [0, 1].

`keep_prob = 1 - strength * (1 - final_keep_prob)`: strength 0 keeps every
unit, strength 1 is the layer's own `keep_prob`. A schedule is a plain function
of a float, so any function or lambda will do.

Reference:
    Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 3.1
    ("Scheduled DropBlock"): a fixed keep_prob does not work well, a linear
    decrease of keep_prob over training does.
"""

import bisect
import math


def constant(progress):
    """Full strength from the first step: no schedule at all."""
    return 1.0


def linear(progress):
    """The paper's schedule: strength grows in proportion to progress."""
    return progress


def cosine(progress):
    """Half a cosine: slow start, slow end, strength 1/2 in the middle."""
    return (1.0 - math.cos(math.pi * progress)) / 2.0


def piecewise_constant(boundaries, values):
    """A schedule that steps from one strength to the next.

    Args:
        boundaries: progress at which each step happens, strictly increasing,
            each in (0, 1).
        values: strengths in [0, 1], one more than there are boundaries.
            `values[i]` is in force from `boundaries[i - 1]` (included) to
            `boundaries[i]` (excluded).

    Returns:
        A schedule: a function of progress.

    Raises:
        ValueError: if the boundaries do not increase within (0, 1), a value
            lies outside [0, 1], or the counts do not fit.

    Example:
        >>> late = piecewise_constant([0.5], [0.0, 1.0])
        >>> late(0.49), late(0.5)
        (0.0, 1.0)
    """
    boundaries, values = tuple(boundaries), tuple(values)
    increasing = all(
        low < high
        for low, high in zip(
            (0.0, *boundaries), (*boundaries, 1.0), strict=True
        )
    )
    if not increasing:
        raise ValueError(
            "`boundaries` must be strictly increasing fractions of the "
            f"training, each in (0, 1). Received: boundaries={boundaries}. "
            "(Steps or epochs? Divide by their total.)"
        )
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            "`values` must hold one strength more than `boundaries`. Received: "
            f"{len(values)} values, {len(boundaries)} boundaries."
        )
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(
            "`values` must be strengths in [0, 1]: 0 keeps every unit, 1 is "
            f"the layer's own keep_prob. Received: values={values}."
        )

    def schedule(progress):
        return values[bisect.bisect_right(boundaries, progress)]

    return schedule


# What a recipe may name. A piecewise schedule needs numbers: pass it in Python.
BY_NAME = {"constant": constant, "linear": linear, "cosine": cosine}
