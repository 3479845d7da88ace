"""Markdown pages of published models: their cards and the tables of models."""

import datetime
import textwrap

from keras_dropblock import tasks

# What a network is for, and what it cannot refuse, by the name of the task.
_PURPOSES = {
    "detection": " for object detection",
    "segmentation": " for semantic segmentation",
}
_LIMITS = {
    "classification": "The model assigns one of its {} classes to any image. ",
    "detection": "The model finds only objects of its {} classes, and may "
    "take other things for them. ",
    "segmentation": "The model assigns one of its {} classes to each pixel "
    "of any image. ",
}


def tables(cards):
    """The tables of published models, by the page that shows them.

    Args:
        cards: list of `hub.Card`.
    """
    return {
        "models/README.md": table(cards, ""),
        "docs/zoo.md": table(cards, "../models/"),
        "README.md": short_table(cards, "models/"),
    }


def short_table(cards, folder):
    """The first five published models, with the main metric of their task.

    Models that `WRN(..., weights=DATASET)` selects come first.
    """
    if not cards:
        return "None is published yet.\n"
    lines = [
        ["model", "data", "parameters", "test score", "n", "hardware"],
        ["---", "---", "---:", "---:", "---:", "---"],
    ]
    for card in sorted(cards, key=lambda card: not card.default)[:5]:
        metric = tasks.find(card.task).metrics[0]
        score = f"{metric.title} {_mean_and_std(card, metric)} {metric.unit}"
        lines.append(
            [
                f"[{card.name}]({folder}{card.name}/README.md)",
                card.dataset,
                f"{card.metrics['parameters']:,}",
                score.rstrip(),
                str(card.metrics["n"]),
                hardware(card.metrics["training"]),
            ]
        )
    return _rows(lines)


def table(cards, folder):
    """Tables of the published models, one for each task.

    Args:
        cards: list of `hub.Card`.
        folder: prefix of the links to the cards, such as `"models/"`.
    """
    if not cards:
        return "None is published yet.\n"
    names = dict.fromkeys(card.task for card in cards)
    return "\n".join(
        _task_table([card for card in cards if card.task == name], folder)
        for name in names
    )


def _task_table(cards, folder):
    metrics = tasks.find(cards[0].task).metrics
    heads = [
        "model",
        "data",
        "parameters",
        *(f"test {metric.heading}" for metric in metrics),
        "n",
        "hours per run",
        "hardware",
    ]
    numbers = len(metrics) + 3
    lines = [heads, ["---", "---"] + ["---:"] * numbers + ["---"]]
    for card in cards:
        training = card.metrics["training"]
        lines.append(
            [
                f"[{card.name}]({folder}{card.name}/README.md)",
                card.dataset,
                f"{card.metrics['parameters']:,}",
                *(_mean_and_std(card, metric) for metric in metrics),
                str(card.metrics["n"]),
                _or_dash(training["hours"], ".2g"),
                hardware(training),
            ]
        )
    return _rows(lines)


def _rows(lines):
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _or_dash(value, form):
    return "–" if value is None else format(value, form)


def hardware(training):
    """The hardware that a model was trained on, as readable text."""
    devices = training["devices"]
    if all("cpu" in device.lower() for device in devices):
        return f"CPU, {training['cpus']} cores ({training['machine']})"
    return f"{', '.join(devices)} ({training['machine']})"


def _mean_and_std(card, metric):
    score = card.metrics["scores"][metric.name]
    text = _text(metric, score["mean"])
    if score["std"] is None:
        return text
    return f"{text} ± {metric.text(score['std'])}"


def _text(metric, value):
    """A score as text: a dash for None, which stands for NaN on a card."""
    return "–" if value is None else metric.text(value)


def card_page(card, recipe):
    """The README of a published model.

    Args:
        card: `hub.Card` of the model.
        recipe: resolved `Recipe` of the model.
    """
    shown = "\n\n".join(
        f"![{caption}]({file})\n\n*{caption}*"
        for file, caption in recipe.task.pictures.items()
    )
    top = ", top=3" if card.task == "classification" else ""
    return f"""# {card.name}

{_what_it_is(card)}

```
import keras_dropblock as kdb

model = kdb.load("{card.name}")
predictions = kdb.predict(model, ["image.png"]{top})
```

## Scores

{_scores_table(card)}
{_how_scored(card, recipe)}

{shown}

![Loss, metrics and learning rate by epoch](curves.png)

## Training

{_training(card, recipe)}
## Limits

{_limits(card)}
"""


def _what_it_is(card):
    height, width, channels = card.image_shape
    classes = len(card.class_names)
    return textwrap.fill(
        f"{card.network}{_PURPOSES.get(card.task, '')} with "
        f"{card.metrics['parameters']:,} parameters for "
        f"{card.dataset}: images of {height} x {width} pixels with "
        f"{channels} {'channels' if channels > 1 else 'channel'}"
        + (f", {classes} classes" if classes else "")
        + f". License of the weights: {card.license}. The complete training "
        "recipe is in [recipe.toml](recipe.toml). All numbers on this page "
        "come from [card.json](card.json).",
        80,
    )


def _how_scored(card, recipe):
    metrics = card.metrics
    part = recipe.validation_split
    watched = (
        "The test split was evaluated once, at the end. The validation split"
        + ("" if part is None else f", {part} of the training images,")
        + " was evaluated after each epoch."
    )
    if metrics["test"]["each_epoch"]:
        watched = (
            "The test split was evaluated after each epoch, but nothing was "
            "selected by it."
        )
    split = recipe.test_split
    named = (
        f" (`{split}`)" if isinstance(split, str) and split != "test" else ""
    )
    return textwrap.fill(
        f"Measured on the {metrics['test']['images']:,} test images{named}, "
        f"after the last epoch, with dtype `{recipe.dtype}` as in training, "
        f"without test-time augmentation. {watched} {_spread(metrics)} "
        "The published weights are those of seed "
        f"{metrics['weights']['seed']}, the first run, not the best one.",
        80,
    )


def _spread(metrics):
    if metrics["n"] == 1:
        return "There is one run, so the spread over seeds is unknown."
    seeds = ", ".join(map(str, metrics["seeds"]))
    return f"Mean ± standard deviation of {metrics['n']} runs, seeds {seeds}."


def _scores_table(card):
    lines = ["| | all runs | published weights |", "|---|---:|---:|"]
    own = card.metrics["runs"][0]
    for metric in tasks.find(card.task).metrics:
        every = _mean_and_std(card, metric)
        one = _text(metric, own[metric.name])
        lines.append(f"| {metric.heading} | {every} | {one} |")
    return "\n".join(lines) + "\n"


def _limits(card):
    classes = len(card.class_names)
    limit = _LIMITS.get(card.task, "").format(classes) if classes else ""
    return textwrap.fill(
        f"{limit}Its scores hold only for images like those of its test set.",
        80,
    )


def _training(card, recipe):
    metrics = card.metrics
    training = metrics["training"]
    versions = ", ".join(f"{k} {v}" for k, v in training["versions"].items())
    first, last = (
        datetime.datetime.fromisoformat(training[key]).date().isoformat()
        for key in ("started", "finished")
    )
    dates = first if first == last else f"{first} to {last}"
    rows = {
        "hardware": hardware(training),
        "epochs": f"{recipe.epochs} of {training['images']:,} images",
    }
    rows |= _speed_and_time(training)
    rows |= {
        "dates": dates,
        "backend": training["backend"],
        "versions": versions,
        "commit": training["commit"],
        "weights": f"{metrics['weights']['bytes']:,} bytes, SHA-256 "
        f"{metrics['weights']['sha256']}",
    }
    if metrics["test"]["sha256"]:
        rows["test images"] = f"SHA-256 {metrics['test']['sha256']}"
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _speed_and_time(training):
    """The rows for speed and time. Dashes if the runs were too short."""
    speed, hours = training["images_per_second"], training["hours"]
    if speed is None:
        return {"speed": "–", "time": "–"}
    time = f"{hours:.2g} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"
    return {
        "speed": f"{speed:,.0f} images/s in training (median of the epochs)",
        "time": f"{time} of training steps per run, at that speed",
    }
