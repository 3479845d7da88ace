"""Load trained models by name, folder or URL."""

import dataclasses
import os
import pathlib

import keras

from keras_dropblock import models, tasks
from keras_dropblock.errors import WeightsError, summary
from keras_dropblock.hub import card as cards
from keras_dropblock.hub import registry, weights

_LONGEST_CARD = 1_000_000  # bytes


def load(source, *, num_classes=None, include_preprocessing=False, folder=None):
    """Load a trained model.

    A model of this package has the attribute `card`, a `hub.Card` with class
    names, preprocessing, license and scores. Keras saves the card with the
    model: `model.save("x.keras")`, then `load("x.keras")`. Weights of
    published models are rejected if their SHA-256 differs from the published
    one.

    A string that is a name in `list_models()` always selects that model, even
    if the current directory has a file or a folder of that name. To load the
    folder, write a path: `"./name"` or `pathlib.Path("name")`.

    Args:
        source: one of

            - a name in `list_models()`,
            - a folder with a `card.json`, such as the work directory of a run
              or `models/<name>` of a checkout,
            - a folder that Keras saved with `zipped=False`,
            - a `.keras` file,
            - a URL, `https://.../<name>`, that contains `card.json` and
              `model.weights.h5`,
            - `hf://owner/name`, which `keras.saving.load_model` reads with
              huggingface_hub,
            - `kaggle://owner/model/keras/variation`, a folder of one of these
              kinds, which kagglehub downloads.

        num_classes: replaces the head by a new one with this number of
            classes, int >= 1. All other layers keep their weights. None:
            keeps the head.
        include_preprocessing: if True, the result maps raw pixels of 0 to 255
            to the task's answer (probabilities for classification). If False,
            it maps normalized images to logits.
        folder: folder that is searched first for the weights of a published
            model, as `<folder>/<name>/model.weights.h5`. For the other places
            see `weights.find`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        WeightsError: if there is no such model, if its weights are missing or
            differ from the published ones, or if it has no card and one is
            needed.

    Example:
        >>> model = load("wrn_16_1_cifar10_dropblock")
        >>> model.card.class_names[3]
        'cat'
    """
    model = _load(source, folder)
    if num_classes is None and not include_preprocessing:
        return model
    card = getattr(model, "card", None)
    if card is None:
        raise WeightsError(
            "`num_classes` and `include_preprocessing` need a model with a "
            f"card. {source} has no card: this package did not create it."
        )
    if num_classes is not None:
        model = with_new_head(model, num_classes)
    if include_preprocessing:
        task = tasks.find(card.task)()
        preprocessing = model.card.preprocessing_for(model)
        model = task.serving_model(model, preprocessing)
    return model


def _load(source, folder):
    if not weights.is_path(source) and source in registry.cards():
        card = registry.cards()[source]
        return with_weights(card, weights.of_card(card, folder))
    path, source = pathlib.Path(source), os.fspath(source)
    scheme, separator, address = source.partition("://")
    if scheme == "hf" and separator:
        return _saved_by_keras(source)
    if scheme == "kaggle" and separator:
        return _from_folder(_kaggle(address), folder)
    if scheme in ("http", "https") and separator:
        return _from_url(source.rstrip("/"))
    if path.is_dir():
        return _from_folder(path, folder)
    if path.suffix == ".keras" and path.is_file():
        return _saved_by_keras(path)
    raise registry.unknown(source)


def _saved_by_keras(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zipfile, h5py and Keras raise many types
        raise WeightsError(
            f"{path} cannot be read as a model that Keras saved: "
            f"{summary(error)}."
        ) from error


def with_weights(card, path):
    """Build the network of a card and load its weights from a file.

    Raises:
        WeightsError: if the weights do not fit the network, or the network
            cannot be built.
    """
    size = pathlib.Path(path).stat().st_size
    # Check the size before building: an untrusted card can describe a network
    # that does not fit into memory.
    least = 4 * models.notation.fewest_parameters(card.builder, card.arguments)
    if least > size:
        raise WeightsError(
            f"{path} must have the weights of {card.network or card.builder}, "
            f"more than {least:,} bytes. The file has {size:,} bytes. Does it "
            "belong to another model?"
        )
    model = card.build()
    weights.read_into(model, path)
    return model


def with_new_head(model, num_classes):
    """Copy a model, with a new head for other classes.

    Args:
        model: a model with a card.
        num_classes: number of logits, int >= 1.

    Returns:
        A new model. Its card has no scores and the class names 0, 1, ...
    """
    card = dataclasses.replace(
        model.card,
        arguments={**model.card.arguments, "num_classes": num_classes},
        class_names=tuple(str(i) for i in range(num_classes)),
        default=False,
        metrics={},
    )
    result = card.build()
    head = tasks.find(card.task).head_layers
    models.copy_weights(model, result, but=head)
    return result


def load_weights(model, source, network):
    """Load the argument `weights` of a builder. See `models.WRN`.

    Args:
        model: the network, with new weights.
        source: a path (see `weights.is_path`), or the name of a model or data
            set (see `registry.for_network`).
        network: name of the network in the paper's notation.
    """
    if weights.is_torch(source):
        models.torch_weights.load(model, source)
        return
    if weights.is_path(source):
        weights.read_into(model, source)
        return
    card = registry.for_network(source, network)
    for what, received, published, hint in (
        (
            "outputs",
            model.output.shape[-1],
            card.arguments["num_classes"],
            f" Use keras_dropblock.load({card.name!r}, num_classes=...) for a "
            "new head.",
        ),
        ("channels", models.image_shape(model)[-1], card.image_shape[-1], ""),
    ):
        if received != published:
            raise WeightsError(
                f"The weights of {card.name} need {published} {what}. "
                f"Received: {received}.{hint}"
            )
    weights.read_into(model, weights.of_card(card))
    model.card = card


def _from_folder(path, folder):
    names = {entry.name for entry in path.iterdir()}
    if cards.FILE in names:
        card = cards.Card.from_folder(path)
        file = path / "model.weights.h5"
        if file.is_file():
            if card.published:
                weights.check(file, card.metrics["weights"]["sha256"])
            return with_weights(card, file)
        if not card.published:
            raise WeightsError(
                f"{path} is the work directory of a run without a finished "
                "epoch: model.weights.h5 is missing."
            )
        return with_weights(card, weights.of_card(card, folder))
    if "config.json" in names:
        return _saved_by_keras(path)
    if "recipe.toml" in names:
        raise WeightsError(
            f"{path} has a recipe.toml but no {cards.FILE}, as version 0.1 "
            f"wrote it. Run: python tools/add_card.py {path}"
        )
    raise WeightsError(
        f"The folder of a model must have a {cards.FILE}, or the config.json "
        f"that Keras writes. Received: {path}, which contains "
        f"{', '.join(sorted(names)) or 'nothing'}."
    )


def _from_url(url):
    """Load the model at a URL. Its weights are cached like published ones."""
    text = _short(f"{url}/{cards.FILE}")
    card = cards.Card.from_text(text, f"{url}/{cards.FILE}")
    if not card.published:
        raise WeightsError(
            f"{url}/{cards.FILE} must have the SHA-256 of its weights. This "
            "card belongs to a run that was not published."
        )
    card.metrics["weights"]["url"] = f"{url}/model.weights.h5"
    # Not from local folders: a different model may have the same name there.
    return with_weights(card, weights.of_card(card, local=False))


def _short(url):
    """Download a URL. Raises `WeightsError` if it is too long for a card."""
    content = b""
    for chunk in weights.chunks(url):
        content += chunk
        if len(content) > _LONGEST_CARD:
            raise WeightsError(
                f"{url} is longer than {_LONGEST_CARD:,} bytes: it is not a "
                "card."
            )
    return content


def _kaggle(handle):
    try:
        import kagglehub
    except ImportError as error:
        raise ImportError(
            "Sources kaggle://... need kagglehub. Run: pip install kagglehub"
        ) from error
    return pathlib.Path(kagglehub.model_download(handle))
