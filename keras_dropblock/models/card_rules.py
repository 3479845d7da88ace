"""What a card must hold before anything is built or fetched for it."""

import json
import math
import re

from keras_dropblock.models.weights import WeightsError
from keras_dropblock.recipe_text import is_writable, shown

# What of a card's metrics.json the registry has; the recipe comes with it.
KEYS = ("image_shape", "class_names", "parameters", "n", "scores", "weights")
_PIXELS = 2**25  # as of the image files that are decoded


def read_json(text, what):
    """The object that a text in JSON holds, as a dict.

    Raises:
        WeightsError: naming what it is, for anything else.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise WeightsError(
            f"{what} must be a JSON object. Its brackets are nested too deeply."
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"{what} must be a JSON object. It cannot be read: {error}."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{what} must be a JSON object. Received: {shown(content)}."
        )
    return content


def _refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")


def check_keys(content, keys, what):
    """Raise WeightsError for content that is no dict or lacks a key."""
    if not isinstance(content, dict):
        raise WeightsError(
            f"{what} must be an object. Received: {shown(content)}."
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise WeightsError(f"{what} must have {', '.join(missing)} too.")


def check(card):
    """Raise WeightsError for the first thing that is wrong with a card."""
    for part, received, rule, right in _rules(card):
        if not right(received):
            raise WeightsError(
                f"The card of {shown(card.name)} must have {part} that is "
                f"{rule}. Received: {shown(received)}."
            )


def _rules(card):
    """(part, what is there, rule, the rule as a function) of each part."""
    yield (
        "an `image_shape`",
        card.image_shape,
        f"3 integers >= 1, of at most {_PIXELS:,} pixels",
        _is_image_shape,
    )
    yield "`class_names`", card.class_names, "a list of texts", _are_texts
    channels = card.image_shape[-1]
    for key in ("mean", "std"):
        yield (
            f"a recipe with a `{key}`",
            getattr(card.recipe, key),
            f"one number for each of the {channels} channels",
            lambda numbers: numbers is not None and len(numbers) == channels,
        )
    if not card.metrics:  # a work directory's
        return
    yield "a name", card.name, "1 to 100 of a-z, 0-9 and _", _is_name
    for key in ("parameters", "n"):
        yield f"`{key}`", card.metrics[key], "an integer >= 1", _is_count
    scores = card.metrics["scores"]
    yield (
        "`scores`",
        scores,
        "an object with accuracy, nll and ece, each with mean and std",
        _are_scores,
    )
    yield (
        "`weights`",
        card.metrics["weights"],
        "an object with sha256 (64 digits of a-f and 0-9), bytes (an integer "
        ">= 1) and url (a text or null)",
        _is_file,
    )


def _is_count(value):
    return type(value) is int and 1 <= value < 2**63


def _is_number(value):
    # Of huge integers `isfinite` would raise an error of its own.
    return (
        type(value) in (int, float)
        and is_writable(value)
        and (math.isfinite(value))
    )


def _is_image_shape(shape):
    return (
        isinstance(shape, list | tuple)
        and len(shape) == 3
        and all(map(_is_count, shape))
        and shape[0] * shape[1] <= _PIXELS
    )


def _are_texts(names):
    return (
        isinstance(names, list | tuple)
        and len(names) > 0
        and all(type(name) is str and is_writable(name) for name in names)
    )


def _is_name(name):
    return type(name) is str and re.fullmatch("[a-z0-9_]{1,100}", name)


def _are_scores(scores):
    return (
        isinstance(scores, dict)
        and {"accuracy", "nll", "ece"} <= {*scores}
        and all(map(_is_score, scores.values()))
    )


def _is_score(score):
    return (
        isinstance(score, dict)
        and {"mean", "std"} <= {*score}
        and _is_number(score["mean"])
        and (score["std"] is None or _is_number(score["std"]))
    )


def _is_file(file):
    if not isinstance(file, dict) or not {"sha256", "bytes", "url"} <= {*file}:
        return False
    sha256, url = file["sha256"], file["url"]
    return (
        type(sha256) is str
        and re.fullmatch("[0-9a-f]{64}", sha256)
        and _is_count(file["bytes"])
        and (url is None or type(url) is str)
    )
