"""Search spaces: the keys of a recipe that vary, and their values."""

import dataclasses
import itertools
import json
import re
from decimal import Decimal, InvalidOperation

from optuna import distributions

from keras_dropblock import keys
from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import key_and_value, shown
from keras_dropblock.training import plan

FORMS = (
    "float(low, high), int(low, high), log(low, high), choice(a, b, ...) or "
    "[a, b, ...]; float and int may end with `step=...`"
)
_MOST_COMBINATIONS = 2000  # to check before the first trial


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


def parse(assignments):
    """Parse strings such as `keep_prob=float(0.75, 1.0)` into a dict.

    The values are the texts or lists that `checked` takes.
    """
    space = {}
    for text in assignments:
        key, value = key_and_value(text, "--space")
        if key in space:
            raise RecipeError(
                f"--space: `{key}` is given twice. Put its values in one list."
            )
        space[key] = value
    return space


def checked(recipe, space):
    """Check a search space and convert its values to those of a recipe.

    Args:
        recipe: `Recipe` that the values go into.
        space: dict from keys of a recipe to `Choice`, `Range`, a list of
            values, or a text in one of `FORMS`.

    Returns:
        A dict from key to `Choice` or `Range`.

    Raises:
        RecipeError: if a key cannot vary, or a value is invalid or repeated,
            or there is no validation split.
    """
    for key in {*space} & {*_FIXED}:
        raise RecipeError(f"--space: `{key}` cannot vary: {_FIXED[key]}")
    result = {}
    for key, given in space.items():
        dimension = _dimension(key, given)
        found = [
            recipe.replaced({key: value}, "--space").flat()[key]
            for value in dimension.examples()
        ]
        if isinstance(dimension, Choice):
            if len({*found}) < len(found):
                raise RecipeError(
                    f"--space: `{key}` must have distinct values. Received: "
                    f"{key}={shown(given)}."
                )
            dimension = Choice(tuple(found))
        result[key] = dimension
    _check_combinations(recipe, result)
    return result


_FIXED = {
    "task": (
        "different tasks have no common metric to compare. Run one search for "
        "each task."
    ),
    "seed": (
        "each point is averaged over seeds. Set their number with --seeds, "
        "and the first one with --set seed=..."
    ),
}


def _dimension(key, given):
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
            f"--space: `{key}` must be {FORMS}. Received: {key}={given}."
        )
    if kind != "int":
        numbers = [_float(number) for number in numbers]
    low, high, *steps = numbers
    if not low < high < float("inf"):
        raise RecipeError(
            f"--space: `{key}` must be {kind}(low, high) with low < high. "
            f"Received: {key}={given}."
        )
    if kind == "log" and not low > 0:
        raise RecipeError(
            f"--space: `{key}` must be log(low, high) with low > 0. Received: "
            f"{key}={given}."
        )
    if steps and not _divides(steps[0], low, high):
        raise RecipeError(
            f"--space: the step of `{key}` must be > 0 and divide high - low. "
            f"Received: {key}={given}."
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


def _check_combinations(recipe, space):
    """Raise for a value that no combination of the other keys allows."""
    combinations = list(
        itertools.islice(
            itertools.product(*(d.examples() for d in space.values())),
            _MOST_COMBINATIONS,
        )
    )
    errors, allowed = {}, set()
    for values in combinations:
        pairs = list(zip(space, values, strict=True))
        try:
            candidate = recipe.replaced(dict(pairs), "--space")
            plan.check(plan.settled(candidate))
        except RecipeError as error:
            for pair in pairs:
                errors.setdefault(pair, error)
        else:
            _require_validation(candidate)
            allowed |= {*pairs}
    if not allowed and errors:
        raise next(iter(errors.values()))
    for (key, value), error in errors.items():
        if (key, value) not in allowed:
            raise RecipeError(
                f"--space: `{key}` = {as_text(value)} is not possible: {error}"
            ) from error


def _require_validation(recipe):
    if not plan.has_validation(recipe):
        raise RecipeError(
            "`validation_split` must be set to compare recipes: choosing by "
            "the test set overfits it. Use, for example, --set "
            "validation_split=0.1"
        )


def points(grid):
    """All combinations of a grid's values. The last key varies fastest.

    Args:
        grid: dict from key to values.
    """
    return list(itertools.product(*grid.values()))


def as_text(value):
    """A value as written in TOML, but strings without quotes."""
    return value if isinstance(value, str) else json.dumps(value)
