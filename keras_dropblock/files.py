"""Writing files so that a reader never sees half of one."""

import contextlib
import os
import pathlib
import re
import secrets


class WriteError(OSError):
    """A file that cannot be written. What was in its place is not lost."""


@contextlib.contextmanager
def replacing(path, keep_as=None):
    """Yield a temporary path; on success it takes the place of `path`.

    It is on the disk before it does, and the change of names after it. The
    temporary name ends as `path` does, since many writers look at the ending.

    Args:
        path: the file to write.
        keep_as: a path in the same folder, to which the file that was there
            moves. None: it is lost.

    Raises:
        WriteError: if the disk is full, or fails in another way.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{_number()}.{path.name}")
    try:
        yield temporary
        _synchronise(temporary)
        if keep_as is not None and path.exists():
            os.replace(path, keep_as)
        os.replace(temporary, path)
        _synchronise(path.parent)
    except OSError as error:
        # HDF5 puts a report of many lines where others put the reason.
        reason = os.strerror(error.errno) if error.errno else error
        raise WriteError(
            f"Cannot write {path}: {reason}. What was there before is not "
            "lost. Make room or mend the disk, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _number():
    """Digits that no other writer has, in a container on the folder either."""
    return f"{os.getpid()}{secrets.randbelow(10**9):09}"


def temporaries(folder):
    """What killed processes left in a folder in the midst of writing."""
    return [
        path
        for path in pathlib.Path(folder).glob(".*")
        if re.match(r"\.\d+\.", path.name)
    ]


def write_text(path, text):
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_between(path, name, text):
    """Replace a generated part of a Markdown file, marked by its name.

    Args:
        path: a file with lines `<!-- name -->` and `<!-- /name -->`.
        name: of the part.
        text: what comes to stand between those lines.

    Raises:
        ValueError: if the file has not one such pair of lines.
    """
    before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    whole = pathlib.Path(path).read_text("utf-8")
    if whole.count(before) != 1 or whole.count(after) != 1:
        raise ValueError(
            f"`path` must be a file with one line {before.strip()} and one "
            f"line {after.strip()} below it. Received: {path}."
        )
    head, rest = whole.split(before)
    _, tail = rest.split(after)
    write_text(path, f"{head}{before}\n{text}\n{after}{tail}")


def _synchronise(path):
    """Wait until a file or a folder is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
