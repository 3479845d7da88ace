"""The text of recipes: TOML, assignments, and values in errors."""

import tomllib

LONGEST = 200  # characters of a value that an error repeats


class RecipeError(ValueError):
    """A recipe that cannot be used; names its source and the key."""


def parse(text, source):
    """Read a text in TOML into a dict.

    Raises:
        RecipeError: naming the source, for any text that is not TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise RecipeError(
            f"{source}: brackets are nested too deeply. A recipe needs two "
            "levels at most, as in [[3], [2, 3]]."
        ) from error
    except ValueError as error:  # not TOML, or a number of 4,300 digits
        raise RecipeError(f"{source}: {error}") from error


def key_and_value(assignment, flag):
    """Read `key=value`, the value as in TOML; a text needs no quotes."""
    key, separator, text = assignment.partition("=")
    if not separator:
        raise RecipeError(
            f"{flag} must read key=value. Received: {shown(assignment)}."
        )
    try:
        values = parse(f"value = {text}", flag)
    except RecipeError:
        values = {}
    # Of several lines only the first would count: they are a text.
    value = values["value"] if len(values) == 1 else text.strip()
    return key.strip(), value


def shown(value):
    """`repr` of a value for an error, cut if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints 4,300 digits at most
        return f"{type(value).__name__} that is too long to print"
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}... ({len(text):,} characters)"


def is_writable(value):
    """Whether a file in TOML can hold a value of a right type."""
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is str:  # halves of characters come from a shell
        return not any("\ud800" <= c <= "\udfff" for c in value)
    return True
