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
