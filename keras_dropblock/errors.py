"""Errors about recipes, data, weights, exports and runs.

Each class has the exit code that the commands return. Each class except
`Interrupted` also inherits from the matching built-in exception, so `except
ValueError` catches errors about bad values. For wrong arguments, layers and
builders raise plain `ValueError` and `TypeError`, as Keras does.
"""


class KerasDropBlockError(Exception):
    """Base class of all errors below. The message says what to do."""

    exit_code = 2


class RecipeError(KerasDropBlockError, ValueError):
    """A recipe cannot be used. The message names its source and the key."""


class DataError(KerasDropBlockError, ValueError):
    """Data are missing, or are not the data that were requested."""


class WorkdirError(KerasDropBlockError, ValueError):
    """A folder is not a work directory, or belongs to a different run."""


class WeightsError(KerasDropBlockError, ValueError):
    """A trained model or its weights are missing, or do not match."""


class ExportError(KerasDropBlockError, ValueError):
    """A model cannot be exported."""


class DifferenceError(KerasDropBlockError, RuntimeError):
    """The outputs of an export differ from the model's. It is not kept."""


class ReportError(KerasDropBlockError, ValueError):
    """A report of runs cannot be written."""


class MissingExtraError(KerasDropBlockError, ImportError):
    """An optional package is not installed. The message names the extra."""


class StorageError(KerasDropBlockError, ConnectionError):
    """The storage of a search cannot be reached."""

    exit_code = 4


class DivergedError(KerasDropBlockError, ArithmeticError):
    """The loss or weights of a run became NaN or infinite."""

    exit_code = 3


class WriteError(KerasDropBlockError, OSError):
    """A file cannot be written. The previous file of that name is kept."""

    exit_code = 4


class PeerLostError(KerasDropBlockError, RuntimeError):
    """Another process of the same training run has stopped."""

    exit_code = 5


class Interrupted(KerasDropBlockError):
    """A run received a request to stop and has saved a checkpoint.

    Args:
        request: `signal.Signals`. The exit code is 128 plus its number, as in
            shells: 130 for Ctrl-C, 143 for SIGTERM.
        place: position of the run as text, such as its epoch and step.
    """

    def __init__(self, request, place):
        super().__init__(
            f"Stopped by {request.name} after {place}. A checkpoint is saved. "
            "Run the same command on the same work directory to resume."
        )
        self.exit_code = 128 + request


def summary(error):
    """The message of another library's error on one line, shortened if long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
