"""Markdown of published models: their cards and the table of them all."""

import datetime
import textwrap

_SCORES = (
    # key, name, factor, digits
    ("accuracy", "accuracy, %", 100, 2),
    ("top5", "top-5 accuracy, %", 100, 2),
    ("nll", "NLL, nats", 1, 4),
    ("ece", "ECE, %", 100, 2),
)


def table(cards, folder):
    """Table of the published models.

    Args:
        cards: contents of their `metrics.json`.
        folder: what a link to a card begins with, such as `"models/"`.
    """
    if not cards:
        return "None is published yet.\n"
    heads = [
        *("model", "data", "parameters", "test accuracy, %", "NLL", "ECE, %"),
        *("n", "hours a run", "on"),
    ]
    lines = [heads, ["---", "---"] + ["---:"] * 6 + ["---"]]
    for card in cards:
        training = card["training"]
        lines.append(
            [
                f"[{card['name']}]({folder}{card['name']}/README.md)",
                card["dataset"],
                f"{card['parameters']:,}",
                _mean_and_std(card, "accuracy", 100, 2),
                _mean_and_std(card, "nll", 1, 4),
                _mean_and_std(card, "ece", 100, 2),
                str(card["n"]),
                _or_dash(training["hours"], ".2g"),
                hardware(training),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _or_dash(value, form):
    return "–" if value is None else format(value, form)


def hardware(training):
    """What a model was trained on, for people."""
    devices = training["devices"]
    if all("cpu" in device.lower() for device in devices):
        return f"CPU, {training['cpus']} cores ({training['machine']})"
    return f"{', '.join(devices)} ({training['machine']})"


def _mean_and_std(card, key, factor, digits):
    score = card["scores"][key]
    text = f"{factor * score['mean']:.{digits}f}"
    if score["std"] is None:
        return text
    return f"{text} ± {factor * score['std']:.{digits}f}"


def card_page(card, recipe):
    """README of a published model.

    Args:
        card: contents of its `metrics.json`.
        recipe: its resolved `Recipe`.
    """
    return f"""# {card["name"]}

{_what_it_is(card)}

```
import keras_dropblock as kdb

model = kdb.models.load("{card["name"]}")
labels, probabilities = kdb.predict_images(model, ["image.png"])
```

## How good

{_scores_table(card)}
{_how_scored(card, recipe)}

![Confusion matrix](confusion.png)

![Loss, error and rates by epoch](curves.png)

![Class activation maps](cam.png)

*The first test images of some classes, and the map of the class that is
predicted (red where it is the wrong one); Zhou et al. 2016.*

## How it was made

{_training(card, recipe)}
## What it is not

It gives any image one of its {len(card["class_names"])} classes. How far its
confidence can be trusted was measured (ECE) on images like those of its test
set alone.
"""


def _what_it_is(card):
    height, width, channels = card["image_shape"]
    return textwrap.fill(
        f"{card['model']} with {card['parameters']:,} parameters for "
        f"{card['dataset']}: images of {height} x {width} pixels with "
        f"{channels} {'channels' if channels > 1 else 'channel'}, "
        f"{len(card['class_names'])} classes. All that decided the training "
        "is in [recipe.toml](recipe.toml), all numbers of this page are in "
        "[metrics.json](metrics.json).",
        80,
    )


def _how_scored(card, recipe):
    return textwrap.fill(
        f"On the {card['test']['images']:,} images of the split "
        f"{recipe.test_split}, after the last epoch, without test-time "
        f"augmentation. {_spread(card)} The published weights are those of "
        f"seed {card['weights']['seed']}, the first and not the best. The "
        "test set was watched and chose nothing.",
        80,
    )


def _spread(card):
    if card["n"] == 1:
        return "One run: how much another seed would differ is not known."
    seeds = ", ".join(map(str, card["seeds"]))
    return f"Mean ± standard deviation of {card['n']} runs, seeds {seeds}."


def _scores_table(card):
    lines = ["| | all runs | the published weights |", "|---|---:|---:|"]
    own = card["runs"][0]
    for key, name, factor, digits in _SCORES:
        every = _mean_and_std(card, key, factor, digits)
        lines.append(f"| {name} | {every} | {factor * own[key]:.{digits}f} |")
    return "\n".join(lines) + "\n"


def _training(card, recipe):
    training = card["training"]
    versions = ", ".join(f"{k} {v}" for k, v in training["versions"].items())
    first, last = (
        datetime.datetime.fromisoformat(training[key]).date().isoformat()
        for key in ("started", "finished")
    )
    dates = first if first == last else f"{first} to {last}"
    rows = {
        "hardware": hardware(training),
        "epochs": f"{recipe.epochs} of {training['images']:,} images",
        **_speed_and_time(training),
        "dates": dates,
        "backend": training["backend"],
        "versions": versions,
        "commit": training["commit"],
        "weights": f"{card['weights']['bytes']:,} bytes, SHA-256 "
        f"{card['weights']['sha256']}",
    }
    if card["test"]["sha256"]:
        rows["test images"] = f"SHA-256 {card['test']['sha256']}"
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _speed_and_time(training):
    """Rows of the card; of a run with too few steps to be timed, dashes."""
    speed, hours = training["images_per_second"], training["hours"]
    if speed is None:
        return {"speed": "–", "time": "–"}
    time = f"{hours:.2g} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"
    return {
        "speed": f"{speed:,.0f} images/s in training (median of the epochs)",
        "time": f"{time} a run, of training steps at that speed",
    }
