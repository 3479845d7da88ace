"""Repositories of the Hugging Face Hub, with addresses `hf://owner/name`."""

import dataclasses
import os
import pathlib
import re

from keras_dropblock.errors import (
    MissingExtraError,
    WeightsError,
    WriteError,
    summary,
)
from keras_dropblock.hub import weights

SCHEME = "hf://"
_ADDRESS = re.compile(
    r"hf://([\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})(?:@([\w][\w./-]*))?", re.ASCII
)


def client():
    """The package huggingface_hub.

    Raises:
        MissingExtraError: if it is not installed. The message says what to do.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError(
            "Addresses hf://... need huggingface_hub. Run: "
            "pip install 'keras-dropblock[hub]'"
        ) from error
    return huggingface_hub


@dataclasses.dataclass
class Repository:
    """A model repository. Its files are downloaded when they are needed.

    Downloads are cached by huggingface_hub, which follows the environment
    variables HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

    Attributes:
        name: `"owner/name"`.
        revision: branch, tag or commit. After the first download it is the
            commit, so that all files belong together.
        origin: address with the commit, once it is known.
    """

    name: str
    revision: str = "main"

    @classmethod
    def of(cls, address):
        """The repository of an address, `hf://owner/name[@revision]`.

        Raises:
            WeightsError: for another address.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None or ".." in address:
            raise WeightsError(
                "The address must be hf://owner/name or "
                f"hf://owner/name@revision. Received: {address!r}."
            )
        return cls(match[1], match[2] or "main")

    def __str__(self):
        return SCHEME + self.name

    @property
    def origin(self):
        return f"{self}@{self.revision}"

    def get(self, file):
        """Path of a file in the cache, or None if it does not exist.

        Raises:
            WeightsError: if it cannot be downloaded.
        """
        hub = client()
        is_commit = re.fullmatch("[0-9a-f]{40}", self.revision)
        if is_commit and self._is_known_to_be_missing(file):
            return None  # not for a branch, which may have moved since then
        try:
            path = hub.hf_hub_download(
                self.name,
                file,
                revision=self.revision,
                library_name="keras_dropblock",
            )
        except hub.errors.LocalEntryNotFoundError as error:
            if _is_offline() or self._is_known_to_be_missing(file):
                return None
            raise self._unreachable(error) from error
        except hub.errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise self._error(error, file) from error
        path = pathlib.Path(path)
        self.revision = path.parent.name
        return path

    def get_weights(self, file):
        """As `get`, but verify the SHA-256 that the hub has for large files."""
        path = self.get(file)
        if path is None:
            return None
        # In the cache, a file is a link to a blob. The name of a large blob
        # is its SHA-256. The blob may be a link too, into a store where names
        # are not digests, so follow only one link.
        if not path.is_symlink():
            return path
        blob = path.parent / os.readlink(path)
        if re.fullmatch("[0-9a-f]{64}", blob.name):
            found = weights.digest(blob)
            if found != blob.name:
                for link in (path, blob.resolve(), blob):
                    link.unlink(missing_ok=True)
                raise WeightsError(
                    f"{self}: {file} is damaged: its SHA-256 must be "
                    f"{blob.name}. Received: {found}. It was deleted from the "
                    "cache. Run the same command again."
                )
        return path

    def get_all(self):
        """Download all files. Returns their folder."""
        try:
            return pathlib.Path(
                client().snapshot_download(self.name, revision=self.revision)
            )
        except ImportError:
            raise
        except Exception as error:
            raise self._error(error, "its files") from error

    def nothing_found(self, files):
        """The error for a repository that has none of these files."""
        text = f"{self} has none of the files {', '.join(files)}"
        if _is_offline():
            return WeightsError(
                f"{text} in the cache, and HF_HUB_OFFLINE is set. Unset it to "
                "download them."
            )
        return WeightsError(f"{text}, so it is not a model that can be read.")

    def _is_known_to_be_missing(self, file):
        """Whether an earlier request for this revision found no such file."""
        found = client().try_to_load_from_cache(
            self.name, file, revision=self.revision
        )
        return found is client()._CACHED_NO_EXIST

    def _unreachable(self, error):
        return WeightsError(
            f"{self} is not in the cache, and the hub cannot be reached: "
            f"{summary(error.__cause__ or error)}. Check the network "
            "connection."
        )

    def _error(self, error, file):
        """Our error for an error of huggingface_hub."""
        errors = client().errors
        if isinstance(error, errors.RevisionNotFoundError):
            text = (
                f"{self} has no revision {self.revision!r}. Leave out "
                f"@{self.revision} for the newest one."
            )
        elif isinstance(error, errors.GatedRepoError):
            text = (
                f"{self} needs permission. Accept its terms on its page, then "
                "log in: hf auth login"
            )
        elif isinstance(error, errors.RepositoryNotFoundError):
            text = (
                f"There is no repository {self}. If it is private, log in: "
                "hf auth login"
            )
        elif isinstance(error, OSError) and error.errno:
            return WriteError(
                f"Cannot write {file} of {self} to the cache: "
                f"{os.strerror(error.errno)}. Free some space, or set HF_HOME "
                "to another folder."
            )
        else:
            text = (
                f"Cannot download {file} of {self}: {summary(error)}. Nothing "
                "was kept. Run the same command again."
            )
        return WeightsError(text)


def _is_offline():
    return client().constants.HF_HUB_OFFLINE
