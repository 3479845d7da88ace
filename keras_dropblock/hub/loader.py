"""Load trained models by name, folder or URL."""

import os
import pathlib

import keras

from keras_dropblock import tasks
from keras_dropblock.errors import MissingExtraError, WeightsError, summary
from keras_dropblock.hub import card as cards
from keras_dropblock.hub import (
    contents,
    huggingface,
    networks,
    registry,
    weights,
)

_LONGEST_CARD = 1_000_000  # bytes


def load(source, *, num_classes=None, include_preprocessing=False, folder=None):
    """Load a trained model.

    A model of this package has the attribute `card`, a `hub.Card` with class
    names, preprocessing, license and scores. Keras saves the card with the
    model: `model.save("x.keras")`, then `load("x.keras")`. Weights of
    published models are rejected if their SHA-256 differs from the published
    one.

    A name in `list_models()` always selects that model, even if the current
    directory has a file or a folder of that name. To load the folder, write a
    path: `"./name"` or `pathlib.Path("name")`.

    Args:
        source: one of

            - a name in `list_models()`,
            - a folder with a `card.json`, such as the work directory of a run
              or `models/<name>` of a checkout,
            - a folder in timm's format: `config.json` and
              `model.safetensors` (see `timm.ARCHITECTURES`),
            - a folder that Keras saved with `zipped=False`,
            - a `.keras` file,
            - a file of Torch weights, `.safetensors`, `.pth`, `.pt` or
              `.bin`, with torchvision's names (see
              `networks.of_torch_file`),
            - a URL, `https://.../<name>`, that contains `card.json` and
              `model.weights.h5`,
            - `hf://owner/name` or `hf://owner/name@revision`, a repository of
              the Hugging Face Hub with the content of one of these folders,
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
        model = networks.with_new_head(model, num_classes)
    if include_preprocessing:
        task = tasks.find(card.task)()
        preprocessing = model.card.preprocessing_for(model)
        model = task.serving_model(model, preprocessing)
    return model


def _load(source, folder):
    if not weights.is_path(source) and source in registry.cards():
        card = registry.cards()[source]
        return networks.with_weights(card, weights.of_card(card, folder))
    path, source = pathlib.Path(source), os.fspath(source)
    scheme, separator, address = source.partition("://")
    if scheme == "hf" and separator:
        return _from_place(huggingface.Repository.of(source), folder)
    if scheme == "kaggle" and separator:
        return _from_place(contents.Folder(_kaggle(address)), folder)
    if scheme in ("http", "https") and separator:
        return _from_url(source.rstrip("/"))
    if path.is_dir():
        return _from_place(contents.Folder(path), folder)
    if weights.is_torch(path) and path.is_file():
        return networks.of_torch_file(path)
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


def _from_place(place, folder):
    card, path = contents.card_and_weights(place, folder)
    if card is None:
        return _saved_by_keras(path)
    return networks.with_weights(card, path)


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
    path = weights.of_card(card, local=False)
    return networks.with_weights(card, path)


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
        raise MissingExtraError(
            "Sources kaggle://... need kagglehub. Run: pip install kagglehub"
        ) from error
    return pathlib.Path(kagglehub.model_download(handle))
