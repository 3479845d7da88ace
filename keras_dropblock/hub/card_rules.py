"""Checks of a card before its network is built or its weights downloaded."""

import math
import re

from keras_dropblock import models, tasks
from keras_dropblock.errors import RecipeError, WeightsError
from keras_dropblock.keys import is_writable, shown

_REQUIRED = ("name", "preprocessing", "class_names")
_TEXTS = (
    "name",
    "network",
    "builder",
    "task",
    "dataset",
    "license",
    "origin",
)
DATA_OPTIONS = ("test_split", "train_split", "ignored_labels")
_PIXELS = 2**25  # the same limit as for decoded image files


def check(content, known, source):
    """Raise `WeightsError` for the first error in the content of a card.

    Args:
        content: the parsed JSON of a card.
        known: names of all keys that a card may have.
        source: name of the card's source, for error messages.
    """
    if not isinstance(content, dict):
        raise WeightsError(
            f"{source} must be an object. Received: {shown(content)}."
        )
    missing = [key for key in _REQUIRED if key not in content]
    unknown = [key for key in content if key not in known]
    if missing or unknown:
        raise WeightsError(
            f"{source}: missing keys: {', '.join(missing) or 'none'}; unknown "
            f"keys: {shown(', '.join(unknown)) if unknown else 'none'}."
        )
    for key, received, rule, is_right in _rules(content):
        if not is_right(received):
            raise WeightsError(
                f"{source}: `{key}` must be {rule}. Received: "
                f"{shown(received)}."
            )


def _rules(content):
    """Yield (key, value, rule as text, rule as function) for each key."""
    for key in _TEXTS:
        if key in content:
            yield key, content[key], "a text", _is_text
    builders = f"one of {', '.join(models.BUILDERS)}"
    yield (
        "builder",
        content.get("builder", ""),
        builders,
        lambda builder: builder in ("", *models.BUILDERS),
    )
    yield "class_names", content["class_names"], "a list of texts", _are_texts
    if "default" in content:
        yield (
            "default",
            content["default"],
            "true or false",
            lambda default: type(default) is bool,
        )
    yield from _preprocessing_rules(content["preprocessing"])
    arguments = content.get("arguments", {})
    yield "arguments", arguments, "an object", _is_object
    yield (
        "data_options",
        content.get("data_options", {}),
        f"an object with some of {', '.join(DATA_OPTIONS)}",
        lambda options: _is_object(options) and {*options} <= {*DATA_OPTIONS},
    )
    channels = len(content["preprocessing"]["mean"])
    if "input_shape" in arguments:
        yield (
            "arguments.input_shape",
            arguments["input_shape"],
            "height and width, integers >= 1 or null, and the "
            f"{channels} channels of `preprocessing`",
            lambda shape: _is_input_shape(shape, channels),
        )
    metrics = content.get("metrics", {})
    yield "metrics", metrics, "an object", _is_object
    if metrics:
        yield from _metrics_rules(content, metrics)


def _preprocessing_rules(preprocessing):
    keys = "an object with image_size, mean and std"
    yield (
        "preprocessing",
        preprocessing,
        keys,
        lambda value: (
            isinstance(value, dict)
            and {"image_size", "mean", "std"} <= {*value}
        ),
    )
    yield (
        "preprocessing.image_size",
        preprocessing["image_size"],
        f"2 integers >= 1, of at most {_PIXELS:,} pixels",
        _is_image_size,
    )
    for key in ("mean", "std"):
        yield (
            f"preprocessing.{key}",
            preprocessing[key],
            "a list of numbers, one for each channel",
            _are_numbers,
        )
    if "crop_fraction" in preprocessing:
        yield (
            "preprocessing.crop_fraction",
            preprocessing["crop_fraction"],
            "a number",
            _is_number,
        )
    if "framing" in preprocessing:
        yield (
            "preprocessing.framing",
            preprocessing["framing"],
            "a text",
            _is_text,
        )


def _metrics_rules(content, metrics):
    if "n" in metrics:
        yield "metrics.n", metrics["n"], "an integer >= 1", _is_count
    if "scores" in metrics:
        yield (
            "metrics.scores",
            metrics["scores"],
            "an object of objects, each with mean and std",
            _are_scores,
        )
    if "weights" not in metrics:
        return
    # These keys are required for a published model.
    name = "1 to 100 characters of a-z, 0-9 and _"
    yield "name", content["name"], name, _is_name
    for key in ("parameters", "n"):
        yield f"metrics.{key}", metrics.get(key), "an integer >= 1", _is_count
    names = [m.name for m in _task(content).metrics]
    yield (
        "metrics.scores",
        metrics.get("scores"),
        f"an object with {', '.join(names)}",
        lambda scores: isinstance(scores, dict) and {*names} <= {*scores},
    )
    yield (
        "metrics.weights",
        metrics["weights"],
        "an object with sha256 (64 digits of a-f and 0-9), bytes (an integer "
        ">= 1) and url (a text or null)",
        _is_file,
    )


def _task(content):
    try:
        return tasks.find(
            content.get("task", "classification"), may_import=False
        )
    except RecipeError as error:
        raise WeightsError(f"The card's {error}") from error


def _is_object(value):
    return isinstance(value, dict)


def _is_text(value):
    return type(value) is str and is_writable(value)


def _are_texts(names):
    return isinstance(names, list) and all(map(_is_text, names))


def _is_count(value):
    return type(value) is int and 1 <= value < 2**63


def _is_number(value):
    # `is_writable` comes first: `isfinite` raises OverflowError for huge
    # integers.
    return (
        type(value) in (int, float)
        and is_writable(value)
        and math.isfinite(value)
    )


def _are_numbers(values):
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(map(_is_number, values))
    )


def _is_image_size(size):
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(map(_is_count, size))
        and size[0] * size[1] <= _PIXELS
    )


def _is_input_shape(shape, channels):
    return (
        isinstance(shape, list)
        and len(shape) == 3
        and all(side is None or _is_count(side) for side in shape[:2])
        and type(shape[2]) is int
        and shape[2] == channels
    )


def _is_name(name):
    return re.fullmatch("[a-z0-9_]{1,100}", name)


def _are_scores(scores):
    return isinstance(scores, dict) and all(map(_is_score, scores.values()))


def _is_score(score):
    return (
        isinstance(score, dict)
        and {"mean", "std"} <= {*score}
        and all(
            score[key] is None or _is_number(score[key])
            for key in ("mean", "std")
        )
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
