"""Searches over recipes with Optuna: grid, random and TPE."""

try:
    import optuna  # noqa: F401
except ImportError as error:
    from keras_dropblock.errors import MissingExtraError

    raise MissingExtraError(
        "Searches need the extra `search`. Run: pip install "
        f"'keras-dropblock[search]'. ({error})"
    ) from error
