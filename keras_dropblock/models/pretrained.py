"""Trained models by name, folder or address."""

import os
import pathlib

import keras

from keras_dropblock.models import cards, weights
from keras_dropblock.models.notation import fewest_parameters, from_recipe

_LONGEST_PAGE = 1_000_000  # bytes


def load(source, *, folder=None):
    """Load a trained model.

    Of this package's own models the result has the attribute `card`: class
    names, preprocessing, recipe and scores, see `cards.Card`. Weights of
    published models are used only if their SHA-256 is the published one. The
    card belongs to the model in memory: Keras saves no such attribute.

    A plain string among `published()` is always that model, even if the
    working directory has a file or a folder of that name. To load the folder,
    write it as a path: `"./name"` or `pathlib.Path("name")`.

    Args:
        source: one of

            - a name among `published()`,
            - a folder: `models/<name>` of a checkout, or a copy with
              `model.weights.h5` in it; the work directory of a run; or what
              Keras saved with `zipped=False`,
            - a `.keras` file,
            - a URL, `https://.../<name>`, below which lie the `recipe.toml`
              and `metrics.json` of a card and `model.weights.h5`,
            - `hf://owner/name`: `keras.saving.load_model`'s work alone; it
              downloads the repository with huggingface_hub, which must be
              installed, and builds what its config.json says,
            - `kaggle://owner/model/keras/variation`: Keras itself knows
              no such handle. kagglehub downloads it, as for KerasHub, and
              must be installed; its folder is then read as one of the above.

        folder: where the weights of a published model are looked for first,
            as `<folder>/<name>/model.weights.h5`. Then come the places of
            `weights.find`.

    Returns:
        A `keras.Model` that gives logits, not compiled.

    Raises:
        weights.WeightsError: if there is no such model, its card is not as it
            must be, or its weights are not there, damaged, or not the
            published ones.
        RecipeError: if the recipe of a card in a folder cannot be used.

    Example:
        >>> model = load("wrn_16_1_cifar10_dropblock")
        >>> model.card.class_names[3]
        'cat'
    """
    registry = cards.read_registry()
    if not weights.is_path(source) and source in registry:
        card = registry[source]
        return build(card, card.find_weights(folder))
    path, source = pathlib.Path(source), os.fspath(source)
    scheme, separator, address = source.partition("://")
    if scheme == "hf" and separator:
        return keras.saving.load_model(source, compile=False)
    if scheme == "kaggle" and separator:
        return _from_folder(_kaggle(address), folder)
    if scheme in ("http", "https") and separator:
        return _from_url(source.rstrip("/"))
    if path.is_dir():
        return _from_folder(path, folder)
    if path.suffix == ".keras" and path.is_file():
        return _saved_by_keras(path)
    raise cards.unknown(source)


def build(card, path):
    """The network of a card with the weights of a file.

    Raises:
        weights.WeightsError: if they do not fit each other, or the network
            cannot be built.
    """
    size = pathlib.Path(path).stat().st_size
    # Before it is built: what a card names may fill the memory.
    least = 4 * fewest_parameters(card.recipe.model)
    if least > size:
        raise weights.WeightsError(
            f"{path} must have the weights of {card.recipe.model}, more than "
            f"{least:,} bytes. It has {size:,}. Is it another model's?"
        )
    try:
        model = from_recipe(
            card.recipe, card.image_shape, len(card.class_names)
        )
    except (TypeError, ValueError) as error:
        raise weights.WeightsError(
            f"The card of {card.name} names a network that cannot be built: "
            f"{error}"
        ) from error
    weights.load(model, path)
    model.card = card
    return model


def _saved_by_keras(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # of zip files, HDF5 and Keras, of many kinds
        raise weights.WeightsError(
            f"{path} cannot be read as a model that Keras saved: "
            f"{weights.summary(error)}."
        ) from error


def _from_folder(path, folder):
    names = {entry.name for entry in path.iterdir()}
    if "config.json" in names:
        return _saved_by_keras(path)
    if "recipe.toml" not in names or not names & {"run.json", "metrics.json"}:
        raise weights.WeightsError(
            "A folder of a model must have recipe.toml with metrics.json (a "
            "card) or run.json (a work directory), or config.json (saved by "
            f"Keras). Received: {path}, which has "
            f"{', '.join(sorted(names)) or 'nothing'}."
        )
    card = cards.Card.from_folder(path)
    file = path / "model.weights.h5"
    if file.is_file():
        if card.metrics:
            weights.check(file, card.metrics["weights"]["sha256"])
        return build(card, file)
    if not card.metrics:
        raise weights.WeightsError(
            f"{path} is the work directory of a run without a finished epoch: "
            "it has no model.weights.h5."
        )
    return build(card, card.find_weights(folder))


def _from_url(url):
    """A card at a URL; its weights come by the cache, as others do."""
    contents = [
        _short(f"{url}/{name}") for name in ("metrics.json", "recipe.toml")
    ]
    try:
        card = cards.Card.from_texts(*(c.decode("utf-8") for c in contents))
    except ValueError as error:
        raise weights.WeightsError(
            f"{url} must have the metrics.json and recipe.toml of a published "
            f"model. They cannot be read: {error}"
        ) from error
    card.metrics["weights"]["url"] = f"{url}/model.weights.h5"
    # Its name may be that of another model here.
    return build(card, card.find_weights(local=False))


def _short(url):
    """What a URL gives, if that is a page and no flood."""
    content = b""
    for chunk in weights.chunks(url):
        content += chunk
        if len(content) > _LONGEST_PAGE:
            raise weights.WeightsError(
                f"{url} gives more than {_LONGEST_PAGE:,} bytes: it is no part "
                "of a card."
            )
    return content


def _kaggle(handle):
    try:
        import kagglehub
    except ImportError as error:
        raise ImportError(
            "Handles kaggle:// need kagglehub. Run: pip install kagglehub"
        ) from error
    return pathlib.Path(kagglehub.model_download(handle))
