"""Contents of a folder or repository: the card of a model, and its weights."""

import functools
import logging
import pathlib

from keras_dropblock import files
from keras_dropblock.errors import WeightsError
from keras_dropblock.hub import card as cards
from keras_dropblock.hub import huggingface, timm, weights
from keras_dropblock.keys import shown

_CONFIG = "config.json"  # of timm or of Keras
_WEIGHTS = "model.weights.h5"
_TORCH = ("model.safetensors", "pytorch_model.bin")
_log = logging.getLogger(__name__)


class Folder:
    """A folder on disk, with the methods of `huggingface.Repository`."""

    origin = ""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __str__(self):
        return str(self.path)

    def get(self, file):
        path = self.path / file
        return path if path.is_file() else None

    get_weights = get

    def get_all(self):
        return self.path

    def nothing_found(self, files):
        present = sorted(entry.name for entry in self.path.iterdir())
        text = f"{self} must have one of the files {', '.join(files)}"
        if "recipe.toml" in present and cards.FILE in files:
            text = (
                f"{self} has a recipe.toml but no {cards.FILE}, as version "
                f"0.1 wrote it. Run: python tools/add_card.py {self}"
            )
        return WeightsError(
            f"{text}. It contains {', '.join(present[:20]) or 'nothing'}."
        )


def card_and_weights(place, folder=None):
    """Find the card of a model and the file of its weights.

    Args:
        place: `Folder` or `huggingface.Repository`. It has a `card.json` of
            this package, or a `config.json` of timm or Keras.
        folder: see `loader.load`.

    Returns:
        (`Card`, path of the weights), or (None, path of a folder) for a model
        that `keras.saving.load_model` can read.

    Raises:
        WeightsError: if something is missing or invalid.
    """
    # Get the config first. Every model on a hub has one, so its place in the
    # cache gives the commit, also without a network connection.
    config = place.get(_CONFIG)
    own = place.get(cards.FILE)
    if own is not None:
        card = cards.Card.from_folder(own.parent)
        result = card, _own_weights(place, card, folder)
    elif config is None:
        raise place.nothing_found((cards.FILE, _CONFIG))
    else:
        content = _read(config, f"{place}/{_CONFIG}")
        if "architecture" not in content:
            _check_is_of_keras(content, place)
            return None, place.get_all()
        card = timm.card(content, f"{place}/{_CONFIG}", place.origin)
        result = card, _torch_weights(place)
    if own is None or isinstance(place, huggingface.Repository):
        show_license(str(place), card.license)
    return result


def timm_card_beside(path):
    """Card from timm's `config.json` in the folder of a file, or None."""
    config = path.with_name(_CONFIG)
    if config.is_file():
        content = _read(config, str(config))
        if "architecture" in content:
            return timm.card(content, str(config))
    return None


def _own_weights(place, card, folder):
    file = place.get_weights(_WEIGHTS)
    if file is not None:
        if card.published:
            weights.check(file, card.metrics["weights"]["sha256"])
        return file
    if not card.published:
        raise WeightsError(
            f"{place} is the work directory of a run without a finished "
            f"epoch: {_WEIGHTS} is missing."
        )
    return weights.of_card(card, folder)


def _torch_weights(place):
    for name in _TORCH:
        file = place.get_weights(name)
        if file is not None:
            return file
    raise place.nothing_found(_TORCH)


def _read(path, source):
    try:
        return files.parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{source} {error}") from error


def _check_is_of_keras(content, place):
    if "class_name" not in content:
        raise WeightsError(
            f"{place}/{_CONFIG} must be a file of timm, with the key "
            "`architecture`, or of a model that Keras saved, with the key "
            f"`class_name`. It has the keys {shown(', '.join(content))}."
        )


@functools.cache
def show_license(source, license):
    """Log the license of downloaded weights, once in each process."""
    _log.warning("%s: the license of these weights is %s.", source, license)
