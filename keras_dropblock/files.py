"""Atomic writing of files: a reader never sees an incomplete file."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import re
import secrets

from keras_dropblock.errors import WriteError


@contextlib.contextmanager
def replacing(path, keep_as=None):
    """Yield a temporary path, and rename it to `path` on success.

    The content is flushed to the disk before the rename, and the folder after
    it. The temporary name has the suffix of `path`, because many writers
    choose the format by the suffix.

    Args:
        path: the file to write.
        keep_as: a path in the same folder. The previous file at `path` is
            renamed to it. None: the previous file is replaced.

    Raises:
        WriteError: if the disk is full, or writing fails for another reason.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{_number()}.{path.name}")
    try:
        yield temporary
        _synchronize(temporary)
        if keep_as is not None and path.exists():
            os.replace(path, keep_as)
        os.replace(temporary, path)
        _synchronize(path.parent)
    except OSError as error:
        # The message of an HDF5 error has many lines, so take the text of
        # the error number if there is one.
        reason = os.strerror(error.errno) if error.errno else error
        raise WriteError(
            f"Cannot write {path}: {reason}. The previous file is kept. Free "
            "some space or repair the disk, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _number():
    """Digits that no other process uses, even in a different container."""
    return f"{os.getpid()}{secrets.randbelow(10**9):09}"


def temporaries(folder):
    """Temporary files that interrupted processes left in a folder."""
    return [
        path
        for path in pathlib.Path(folder).glob(".*")
        if re.match(r"\.\d+\.", path.name)
    ]


def write_text(path, text):
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def parse_json(text, *, allow_nan=False):
    """Parse a JSON object, given as text or bytes, into a dict.

    Args:
        text: str or bytes.
        allow_nan: whether NaN and Infinity are numbers, as Python writes them.

    Raises:
        ValueError: for anything else. The message begins with "must be", so
            that the caller can put the name of the file before it.
    """
    try:
        content = json.loads(
            text, parse_constant=None if allow_nan else _refuse
        )
    except RecursionError as error:
        raise ValueError(
            "must be a JSON object. Its brackets are nested too deeply."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"must be a JSON object. It cannot be read: {error}."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"must be a JSON object. Received: {str(content)[:200]}."
        )
    return content


def _refuse(constant):
    raise ValueError(f"{constant} is not a JSON number")


def for_json(value):
    """A copy of numbers in dicts with None for NaN and infinity.

    JSON has no such numbers.
    """
    if isinstance(value, dict):
        return {key: for_json(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path, content):
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path, rows):
    """Write a CSV file atomically.

    Args:
        path: file to write.
        rows: list of dicts with the same keys, at least one. The keys of the
            first one are the heading.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_figure(path, figure):
    """Write a matplotlib figure to a file atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def write_between(path, name, text):
    """Replace the generated part of a Markdown file that has this name.

    Args:
        path: a file with lines `<!-- name -->` and `<!-- /name -->`.
        name: name of the part.
        text: new text between these two lines.

    Raises:
        ValueError: if the file does not have exactly one such pair of lines.
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


def _synchronize(path):
    """Flush a file or a folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
