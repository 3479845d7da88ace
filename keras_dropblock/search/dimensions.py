"""Dimensions of a search space: a choice or a range for a key."""

import dataclasses
import json
import re
from decimal import Decimal, InvalidOperation

from optuna import distributions

from keras_dropblock import keys
from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import shown

FORMS = (
    "float(low, high), int(low, high), log(low, high), choice(a, b, ...) or "
    "[a, b, ...]; float and int may end with `step=...`"
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A key that has one of some values."""

    values: tuple

    def distribution(self):
        return distributions.CategoricalDistribution(
            [self.stored(value) for value in self.values]
        )

    def stored(self, value):
        """A value as Optuna stores it: a list becomes text."""
        return json.dumps(value) if isinstance(value, tuple) else value

    def value(self, stored):
        """The value of the recipe's key for the value that Optuna stores."""
        return next(x for x in self.values if self.stored(x) == stored)

    def grid(self):
        """All values."""
        return self.values

    examples = grid

    def __str__(self):
        return f"choice({', '.join(json.dumps(x) for x in self.values)})"


@dataclasses.dataclass(frozen=True)
class Range:
    """A key with a number from `low` to `high`, both included.

    Attributes:
        low, high: both int, or both float.
        step: distance of the values from `low` on. None: 1 for int, and any
            value for float.
        log: whether the logarithm is uniform, instead of the value.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    def distribution(self):
        if isinstance(self.low, int):
            return distributions.IntDistribution(
                self.low, self.high, step=self.step or 1
            )
        return distributions.FloatDistribution(
            self.low, self.high, step=self.step, log=self.log
        )

    def stored(self, value):
        """A value as Optuna stores it."""
        return value

    def value(self, stored):
        """The value without the rounding errors of multiples of `step`."""
        if self.step is None:
            return stored
        return type(self.low)(float(f"{stored:.12g}"))

    def grid(self):
        """All values. None if there are more than 10,000."""
        if self.step is None and isinstance(self.low, float):
            return None
        low, step = Decimal(str(self.low)), Decimal(str(self.step or 1))
        count = int((Decimal(str(self.high)) - low) / step) + 1
        if count > 10_000:
            return None
        return tuple(type(self.low)(low + i * step) for i in range(count))

    def examples(self):
        """The values to check: if both ends are valid, all values are."""
        return self.low, self.high

    def __str__(self):
        kind = "log" if self.log else type(self.low).__name__
        step = "" if self.step is None else f", step={self.step}"
        return f"{kind}({self.low}, {self.high}{step})"


def dimension(key, given):
    """The `Choice` or `Range` of a list or of a text in one of `FORMS`.

    Raises:
        RecipeError: if it is neither. The message names the key.
    """
    if isinstance(given, Choice | Range):
        return given
    form = None
    if isinstance(given, str):
        form = re.fullmatch(r"\s*(float|int|log|choice)\s*\((.*)\)\s*", given)
    if form is None:
        values = given
    elif form[1] == "choice":
        values = _toml(f"[{form[2]}]")
    else:
        return _range(key, given, form[1], form[2])
    if not isinstance(values, list | tuple) or not values:
        raise RecipeError(
            f"--space: `{key}` must be {FORMS}, with strings in quotes. "
            f"Received: {key}={shown(given)}."
        )
    return Choice(tuple(values))


def _range(key, given, kind, body):
    """Parse `low, high` or `low, high, step=...`."""
    received = f"{key}={given}"
    if len(received) > keys.LONGEST:
        received = f"{received[: keys.LONGEST]}... ({len(given):,} characters)"
    *ends, last = [part.strip() for part in body.split(",")]
    name, is_step, step = last.partition("=")
    if not is_step:
        ends, step = [*ends, last], None
    numbers = [_toml(text) for text in (*ends, *([step] if is_step else []))]
    wanted = int if kind == "int" else (int, float)
    if (
        len(ends) != 2
        or (is_step and (name.strip() != "step" or kind == "log"))
        or any(isinstance(x, bool) for x in numbers)
        or not all(isinstance(x, wanted) for x in numbers)
    ):
        raise RecipeError(
            f"--space: `{key}` must be {FORMS}. Received: {received}."
        )
    if kind != "int":
        numbers = [_float(number) for number in numbers]
    low, high, *steps = numbers
    if not low < high < float("inf"):
        raise RecipeError(
            f"--space: `{key}` must be {kind}(low, high) with low < high. "
            f"Received: {received}."
        )
    if kind == "log" and not low > 0:
        raise RecipeError(
            f"--space: `{key}` must be log(low, high) with low > 0. Received: "
            f"{received}."
        )
    if steps and not _divides(steps[0], low, high):
        raise RecipeError(
            f"--space: the step of `{key}` must be > 0 and divide high - low. "
            f"Received: {received}."
        )
    return Range(low, high, *steps, log=kind == "log")


def _float(number):
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _divides(step, low, high):
    low, high, step = (Decimal(str(number)) for number in (low, high, step))
    try:
        return step > 0 and (high - low) % step == 0
    except InvalidOperation:  # a quotient with more than 28 digits, or NaN
        return False


def _toml(text):
    """The value of a text in TOML, or None."""
    try:
        values = keys.parse(f"value = {text}", "--space")
    except RecipeError:
        return None
    return values["value"] if len(values) == 1 else None
