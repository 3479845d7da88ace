"""Where published weights lie, and how they come to a machine."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import threading
import time
import urllib.error
import urllib.request

from keras_dropblock import files

PACKAGED = pathlib.Path(__file__).with_name("published")
# What the names of files end in that Keras can load weights from.
_SUFFIXES = (".weights.h5", ".weights.json", ".keras", ".h5", ".hdf5")
_SECONDS = 30  # without a byte, until a server is given up
_CHUNK = 1 << 16
_one_download = threading.Lock()  # temporary names tell processes apart only


class WeightsError(ValueError):
    """Weights that are not there or not what they should be."""


def is_path(source):
    """Whether a source of weights is a path rather than a published name.

    The answer depends on the spelling alone, never on the working directory.
    A path is a `pathlib.Path`, a string with a separator such as `"./name"`,
    or a string with a suffix of Keras's files (`.weights.h5`,
    `.weights.json`, `.keras`, `.h5`, `.hdf5`). No published name has either.
    """
    if isinstance(source, os.PathLike) or source.endswith(_SUFFIXES):
        return True
    return os.sep in source or (os.altsep or os.sep) in source


def find(name, *, sha256, size, url=None, folder=None, local=True):
    """Path of published weights, checked, downloaded if they must be.

    Looks into the folder that is given, that of the environment variable
    KERAS_DROPBLOCK_MODELS, `saved_models` and `models` of the checkout that
    the package runs from, the package itself and the cache; then asks the
    URL. The cache is KERAS_DROPBLOCK_CACHE, or `keras_dropblock` in the
    user's folder of caches.

    Args:
        name: of the model.
        sha256: of the file, 64 hexadecimal digits.
        size: of the file, in bytes.
        url: of the file, or None.
        folder: a folder with `<name>/model.weights.h5` in it.
        local: whether to look elsewhere than in the cache and at the URL.

    Raises:
        WeightsError: if they are nowhere, or are not those that were
            published; nothing of a download is left then.
        files.WriteError: if the cache is full or cannot be written.
    """
    places = [
        place / name / "model.weights.h5" for place in _folders(folder)
    ] + [PACKAGED / f"{name}.weights.h5"]
    for path in places if local else ():
        if path.is_file():
            check(path, sha256)
            return path
    # A later file of the same name does not meet an earlier one there.
    cached = cache() / f"{name}.{sha256[:16]}.weights.h5"
    if cached.is_file():
        if digest(cached) == sha256:
            return cached
        cached.unlink(missing_ok=True)
    if url is None:
        raise WeightsError(
            f"The weights of {name} are nowhere: no file "
            f"{', '.join(map(str, [*places, cached]))}, and no URL is known. "
            "Set KERAS_DROPBLOCK_MODELS to a folder that has "
            f"{name}/model.weights.h5."
        )
    download(url, cached, sha256=sha256, size=size)
    return cached


def _folders(folder):
    checkout = pathlib.Path(__file__).parents[2]
    folders = [folder, os.environ.get("KERAS_DROPBLOCK_MODELS")]
    if (checkout / "pyproject.toml").is_file():
        folders += [checkout / "saved_models", checkout / "models"]
    return [pathlib.Path(place) for place in folders if place]


def cache():
    """The folder of downloaded weights; it need not be there."""
    chosen = os.environ.get("KERAS_DROPBLOCK_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(caches) / "keras_dropblock"


def digest(path):
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path, sha256):
    """Raise WeightsError for a file that is not the published one."""
    found = digest(path)
    if found != sha256:
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 is {found}, that "
            f"of the published one {sha256}. It was not used. Remove it, or "
            "put the published one in its place."
        )


def load(model, path):
    """Load a `.weights.h5` file into the network that it belongs to.

    Args:
        model: a built `keras.Model`.
        path: of the file.

    Raises:
        WeightsError: if the file is not there, is damaged, or holds the
            weights of another network. The model has then some of them, and
            is of no use.
    """
    if not pathlib.Path(path).is_file():
        raise WeightsError(f"{path} must be a .weights.h5 file. It is none.")
    try:
        model.load_weights(path)
    except Exception as error:  # of h5py, HDF5 and Keras, of many kinds
        raise WeightsError(
            f"{path} cannot be read as weights of {model.name}: "
            f"{summary(error)}. It is damaged, or another network's."
        ) from error


def summary(error):
    """What an error says, on one line of moderate length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def download(url, path, *, sha256, size):
    """Fetch a file and check it; it takes its name whole and right.

    Any number of processes may fetch the same file at once: each writes under
    a name of its own, and the last one stays.

    Raises:
        WeightsError: if the server does not answer, stops too early, or sends
            something else.
        files.WriteError: if the disk is full or cannot be written.
    """
    _make(path.parent)
    with _one_download, files.replacing(path) as temporary:
        with open(temporary, "wb") as file:
            received = _copy(url, file, size)
        found = digest(temporary)
        if received != size or found != sha256:
            raise WeightsError(
                f"{url} gave {received:,} bytes with the SHA-256 {found}. "
                f"Expected: {size:,} bytes with {sha256}. Nothing was kept. "
                "Try again; if it stays so, the file there is another one."
            )


def _make(folder):
    """Make a folder; remove what killed downloads left there a day ago."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.WriteError(
            f"Cannot make the folder {folder}: {error.strerror}. Set "
            "KERAS_DROPBLOCK_CACHE to a folder that can be written."
        ) from error
    for path in files.temporaries(folder):
        # Another process may give it its name, or remove it, meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def _copy(url, file, size):
    """Write what a URL gives, at most one chunk above the size, to a file."""
    received = 0
    for chunk in chunks(url):
        file.write(chunk)  # outside of what is blamed on the network
        received += len(chunk)
        if received > size:
            break
    return received


def chunks(url):
    """What a URL gives, chunk by chunk.

    Raises:
        WeightsError: if the server cannot be reached or does not go on.
    """
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise WeightsError(
            f"{url} answers {error.code} {error.reason}: the file is not there."
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"Cannot read {url}: {reason}. Is there a network? Else set "
            "KERAS_DROPBLOCK_MODELS to a folder with the weights."
        ) from error
