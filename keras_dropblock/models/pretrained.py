"""Trained models by name, folder or address."""

import os
import pathlib

import keras

from keras_dropblock.models import cards, weights
from keras_dropblock.models.notation import from_recipe

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
        weights.WeightsError: if there is no such model, or its weights are
            not there or not the published ones.

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
        return keras.saving.load_model(path, compile=False)
    raise cards.unknown(source)


def build(card, path):
    """The network of a card with the weights of a file."""
    model = from_recipe(card.recipe, card.image_shape, len(card.class_names))
    model.load_weights(path)
    model.card = card
    return model


def _from_folder(path, folder):
    names = {entry.name for entry in path.iterdir()}
    if "config.json" in names:
        return keras.saving.load_model(path, compile=False)
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
        file = card.metrics["weights"]
        file["url"] = f"{url}/model.weights.h5"
        if not isinstance(file["bytes"], int) or len(file["sha256"]) != 64:
            raise ValueError("weights must have bytes and a SHA-256")
    except (KeyError, TypeError, ValueError) as error:
        raise weights.WeightsError(
            f"{url} must have the metrics.json and recipe.toml of a published "
            f"model. They cannot be read: {error!r}."
        ) from error
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
