"""Find, download and verify files of weights."""

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
from keras_dropblock.errors import WeightsError, WriteError, summary

PACKAGED = pathlib.Path(__file__).with_name("published")
# Suffixes of the files from which Keras can load weights.
_SUFFIXES = (".weights.h5", ".weights.json", ".keras", ".h5", ".hdf5")
# Suffixes of Torch's files. They hold no code: see `models.torch_weights`.
_TORCH = (".safetensors", ".pth", ".pt", ".bin")
_SECONDS = 30  # timeout for a server that sends nothing
_CHUNK = 1 << 16  # bytes
# Temporary names differ between processes, but not between threads.
_one_download = threading.Lock()


def of_card(card, folder=None, local=True):
    """Path of the verified weights of a published card. See `find`."""
    file = card.metrics["weights"]
    return find(
        card.name,
        sha256=file["sha256"],
        size=file["bytes"],
        url=file["url"],
        folder=folder,
        local=local,
    )


def read_into(model, path):
    """Load a `.weights.h5` file into the network that it belongs to.

    Args:
        model: a built `keras.Model`.
        path: path of the file.

    Raises:
        WeightsError: if the file does not exist, is damaged, or holds the
            weights of another network. Do not use the model after this error:
            it may have been loaded in part.
    """
    if not pathlib.Path(path).is_file():
        raise WeightsError(
            f"{path} must be a .weights.h5 file. There is no such file."
        )
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise many types
        raise WeightsError(
            f"{path} cannot be read as weights of {model.name}: "
            f"{summary(error)}. The file is damaged, or belongs to another "
            "network."
        ) from error


def is_path(source):
    """Whether a source of weights is a path and not a published name.

    The answer depends only on the spelling, not on the files that exist. A
    path is a `pathlib.Path`, a string with a separator such as `"./name"`, or
    a string with a suffix of Keras's files (`.weights.h5`, `.weights.json`,
    `.keras`, `.h5`, `.hdf5`) or of Torch's (see `is_torch`). Published names
    have neither separators nor such suffixes.
    """
    if isinstance(source, os.PathLike) or source.endswith(_SUFFIXES + _TORCH):
        return True
    return os.sep in source or (os.altsep or os.sep) in source


def is_torch(source):
    """Whether a source of weights is a file of Torch, by its suffix."""
    return os.fspath(source).endswith(_TORCH)


def find(name, *, sha256, size, url=None, folder=None, local=True):
    """Path of published weights. They are downloaded on first use.

    These places are searched in order: `folder`; the folder in the
    environment variable KERAS_DROPBLOCK_MODELS; `saved_models` and `models`
    of the checkout that the package runs from; the package itself; the cache;
    the URL. The cache is KERAS_DROPBLOCK_CACHE or, by default,
    `keras_dropblock` in the user's cache folder.

    Args:
        name: name of the model.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        size: size of the file in bytes.
        url: URL of the file, or None.
        folder: a folder that contains `<name>/model.weights.h5`.
        local: whether to search the other places before the cache and the
            URL.

    Raises:
        WeightsError: if the file is not found, or its SHA-256 differs from
            the published one. A rejected download is deleted.
        WriteError: if the file cannot be written to the cache.
    """
    places = [
        place / name / "model.weights.h5" for place in _folders(folder)
    ] + [PACKAGED / f"{name}.weights.h5"]
    for path in places if local else ():
        if path.is_file():
            check(path, sha256)
            return path
    # The digest in the name keeps different versions of a model apart.
    cached = cache() / f"{name}.{sha256[:16]}.weights.h5"
    if cached.is_file():
        if digest(cached) == sha256:
            return cached
        cached.unlink(missing_ok=True)
    if url is None:
        raise WeightsError(
            f"The weights of {name} were not found: there is no file "
            f"{', '.join(map(str, [*places, cached]))}, and no URL is known. "
            "Set KERAS_DROPBLOCK_MODELS to a folder that contains "
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
    """The folder of downloaded weights. It may not exist yet."""
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
    """Raise `WeightsError` if a file does not have this SHA-256."""
    found = digest(path)
    if found != sha256:
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 must be {sha256}. "
            f"Received: {found}. It was not used. Delete it, or replace it "
            "with the published file."
        )


def download(url, path, *, sha256, size):
    """Download a file, verify it, then rename it atomically.

    Several processes may download the same file at the same time: each
    writes to a temporary file of its own.

    Raises:
        WeightsError: if the server does not respond, the download is
            incomplete, or the file is not the expected one.
        WriteError: if the disk is full or not writable.
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
                "Try again. If the error persists, the server has a different "
                "file."
            )


def _make(folder):
    """Create a folder, and delete temporary files older than a day in it.

    Interrupted downloads leave such files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"Cannot create the folder {folder}: {error.strerror}. Set "
            "KERAS_DROPBLOCK_CACHE to a writable folder."
        ) from error
    for path in files.temporaries(folder):
        # Meanwhile another process may rename or delete the file.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def _copy(url, file, size):
    """Download a URL into a file. Stop once more than `size` bytes arrive."""
    received = 0
    for chunk in chunks(url):
        file.write(chunk)  # not in `chunks`, which reports network errors
        received += len(chunk)
        if received > size:
            break
    return received


def chunks(url):
    """Yield the content of a URL in chunks.

    Raises:
        WeightsError: if the server cannot be reached or stops responding.
    """
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise WeightsError(
            f"Cannot download {url}: {error.code} {error.reason}."
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"Cannot read {url}: {reason}. Check the network connection. "
            "Without a network, set KERAS_DROPBLOCK_MODELS to a folder with "
            "the weights."
        ) from error
