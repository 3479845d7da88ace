"""Keys of a recipe: their types, their ranges and their values in TOML."""

import dataclasses
import difflib
import math
import tomllib
import types
import typing

from keras_dropblock.errors import RecipeError

LONGEST = 200  # characters of a value that an error message may show


def key(default, about, rule=None, allowed=None):
    """A dataclass field that is a key of a recipe.

    Args:
        default: value if the recipe does not have the key.
        about: meaning of the key with its unit, for the documentation.
        rule: range of the value, as it reads in the sentence "must be ...".
            None: any value of the field's type.
        allowed: function that returns whether a value is in that range.
    """
    return dataclasses.field(
        default=default,
        metadata={"about": about, "rule": rule, "allowed": allowed},
    )


def choice(default, about, options):
    """A key whose value must be one of the given strings."""
    return key(
        default,
        about,
        f"one of {', '.join(options)}",
        lambda value: value in options,
    )


def check_keys(instance):
    """Convert and check the keys of a frozen dataclass, in `__post_init__`.

    In float fields, integers become floats. Lists become tuples.

    Raises:
        RecipeError: for a value of the wrong type or outside the key's range.
    """
    for field in dataclasses.fields(instance):
        if "about" not in field.metadata:
            continue
        value = converted(field, getattr(instance, field.name))
        object.__setattr__(instance, field.name, value)


def converted(field, value):
    """Convert a value to the type of its key.

    Raises:
        RecipeError: for a value of the wrong type or outside the key's range.
    """
    options = _types(field.type)
    if value is None and type(None) in options:
        return None
    for option in options:
        found, result = _as_type(option, value)
        if found:
            break
    else:
        raise RecipeError(
            f"`{field.name}` must be {type_name(field)}. Received: "
            f"{field.name}={shown(value)}."
        )
    if not is_writable(result):
        raise RecipeError(
            f"`{field.name}` must be a value that TOML can hold: integers of "
            f"64 bits, text in UTF-8. Received: {field.name}={shown(value)}."
        )
    allowed = field.metadata["allowed"]
    if allowed is not None and not allowed(result):
        raise RecipeError(
            f"`{field.name}` must be {field.metadata['rule']}. Received: "
            f"{field.name}={shown(value)}."
        )
    return result


def type_name(field):
    """The type of a key, as it reads in the sentence "must be ..."."""
    options = _types(field.type)
    return " or ".join(_name(x) for x in options if x is not type(None))


def nearest(name, known):
    """The known name that is most similar to `name`."""
    name = name[:LONGEST]  # matching is slow for long names
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def parse(text, source):
    """Parse TOML text into a dict.

    Raises:
        RecipeError: for text that is not TOML. The message names the source.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise RecipeError(
            f"{source}: brackets are nested too deeply. A recipe needs two "
            "levels at most, as in [[3], [2, 3]]."
        ) from error
    except ValueError as error:  # not TOML, or a number with > 4,300 digits
        raise RecipeError(f"{source}: {error}") from error


def key_and_value(assignment, flag):
    """Parse `key=value` with a TOML value; strings need no quotes."""
    name, separator, text = assignment.partition("=")
    if not separator:
        raise RecipeError(
            f"{flag} must read key=value. Received: {shown(assignment)}."
        )
    try:
        values = parse(f"value = {text}", flag)
    except RecipeError:
        values = {}
    # Text with several lines may parse as several keys. It is then a string.
    value = values["value"] if len(values) == 1 else text.strip()
    return name.strip(), value


def shown(value):
    """`repr` of a value for an error message, shortened if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # e.g. an int with > 4,300 digits
        return f"{type(value).__name__} that is too long to print"
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}... ({len(text):,} characters)"


def is_positive(value):
    """Whether a number is above 0 and finite."""
    return 0 < value < math.inf


def is_share(value):
    """Whether a number is in [0, 1]."""
    return 0 <= value <= 1


def is_rate(value):
    """Whether a number is in [0, 1)."""
    return 0 <= value < 1


def is_not_negative(value):
    """Whether a number is at least 0 and finite."""
    return 0 <= value < math.inf


def is_at_least_one(value):
    """Whether a number is at least 1."""
    return value >= 1


def _types(annotation):
    if isinstance(annotation, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _as_type(kind, value):
    """(whether `value` has the type `kind`, the converted value)."""
    if typing.get_origin(kind) is tuple:
        (item, _) = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            return False, None
        pairs = [_as_type(item, element) for element in value]
        return all(ok for ok, _ in pairs), tuple(x for _, x in pairs)
    if type(value) is kind:
        return True, value
    if kind is float and type(value) is int:
        try:
            return True, float(value)
        except OverflowError:
            return False, None
    return False, None


def is_writable(value):
    """Whether TOML can represent a value that already has the right type."""
    if isinstance(value, tuple):
        return all(map(is_writable, value))
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is str:  # a shell may pass bytes that are not UTF-8
        return not any("\ud800" <= c <= "\udfff" for c in value)
    return True


def _name(kind):
    if typing.get_origin(kind) is tuple:
        (item, _) = typing.get_args(kind)
        return f"a list of {item.__name__}s"
    names = {str: "a text", int: "an int", bool: "true or false"}
    return names.get(kind, "a number")
