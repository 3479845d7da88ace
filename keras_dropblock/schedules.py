"""Schedules: progress of training in [0, 1] -> strength of DropBlock in [0, 1].

`keep_prob = 1 - strength * (1 - final_keep_prob)`. Strength 0 keeps every
unit. Strength 1 gives the `keep_prob` that the layer was built with. A
schedule is a function from float to float; you can pass your own.

Reference:
    Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 3.1
    ("Scheduled DropBlock"): a fixed keep_prob does not work well, but a
    linear decrease of keep_prob over the training does.
"""

import bisect
import math


def constant(progress):
    """Full strength from the first step, as without a schedule."""
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
        boundaries: progress at which the strength changes; strictly
            increasing, each in (0, 1).
        values: strengths in [0, 1], one more than there are boundaries.
            `values[i]` applies from `boundaries[i - 1]` (included) to
            `boundaries[i]` (excluded).

    Returns:
        A schedule: a function of progress.

    Raises:
        ValueError: if the boundaries are not strictly increasing in (0, 1),
            a value is outside [0, 1], or the numbers of boundaries and values
            do not match.

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
            "`values` must have one more entry than `boundaries`. Received: "
            f"{len(values)} values, {len(boundaries)} boundaries."
        )
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(
            "`values` must be strengths in [0, 1]: 0 keeps every unit, 1 gives "
            f"the layer's final keep_prob. Received: values={values}."
        )

    def schedule(progress):
        return values[bisect.bisect_right(boundaries, progress)]

    return schedule


# Schedules that a recipe can name. `piecewise_constant` needs arguments, so it
# is available only in Python.
BY_NAME = {"constant": constant, "linear": linear, "cosine": cosine}
