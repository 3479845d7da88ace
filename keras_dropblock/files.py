"""Writing files so that a reader never sees half of one."""

import contextlib
import os
import pathlib


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path; on success it takes the place of `path`.

    The name ends as `path` does, since many writers look at the ending.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
