"""The output of an analysis of a run: the files below `RUN/analysis/`."""

import csv
import dataclasses
import json
import pathlib

from keras_dropblock.errors import WorkdirError
from keras_dropblock.runs import workdir as names

FOLDER = "analysis"
_ROWS = 50  # of a CSV file that are shown


@dataclasses.dataclass(frozen=True)
class Finding:
    """The files of an analysis that have the same name before the suffix.

    Attributes:
        title: `title` of the JSON file, or else the files' name in words.
        picture: path of a PNG file, or None.
        rows: rows of the CSV file, the heading first, each a list of texts;
            or else (key, value) of the JSON file. At most 50 and the heading.
        more: number of rows that are not in `rows`.
        text: the JSON file, indented, if it has lists or dicts. Or `""`.
        paths: all files.
    """

    title: str
    picture: pathlib.Path | None
    rows: list
    more: int
    text: str
    paths: list


def of(workdir):
    """Read the analysis of a run.

    Args:
        workdir: `pathlib.Path` of the run.

    Returns:
        A dict from the name of each finding, such as `"maps/cat"`, to
        `Finding`. It is empty without a folder `analysis`.

    Raises:
        WorkdirError: if a JSON or CSV file cannot be read.
    """
    return below(workdir / FOLDER)


def below(folder):
    """Read the findings in a folder and its subfolders. See `of`."""
    return _read_all(folder, folder.rglob("*"), (".png", ".csv", ".json"))


def of_search(folder):
    """Read the tables and pictures in the folder of a search. See `of`."""
    return _read_all(folder, folder.glob("*"), (".png", ".csv"))


def _read_all(folder, paths, suffixes):
    files = {}
    for path in sorted(paths):
        hidden = any(x[0] == "." for x in path.relative_to(folder).parts)
        if path.suffix in suffixes and not hidden:
            name = path.relative_to(folder).with_suffix("").as_posix()
            files.setdefault(name, {})[path.suffix] = path
    return {name: _read(name, paths) for name, paths in files.items()}


def _read(name, paths):
    content = names.read_json(paths[".json"]) if ".json" in paths else {}
    words = name.replace("_", " ").replace("/", ": ")
    title = content.pop("title", words[:1].upper() + words[1:])
    nested = {k: v for k, v in content.items() if isinstance(v, dict | list)}
    rows = [
        (key.replace("_", " "), number(value))
        for key, value in content.items()
        if key not in nested
    ]
    if ".csv" in paths:
        nested, rows = nested or content, _table(paths[".csv"])
    head = 1 if ".csv" in paths else 0
    return Finding(
        str(title),
        paths.get(".png"),
        rows[: _ROWS + head],
        max(len(rows) - _ROWS - head, 0),
        json.dumps(nested, indent=1, ensure_ascii=False) if nested else "",
        [*paths.values()],
    )


def _table(path):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeError, csv.Error) as error:
        raise WorkdirError(f"{path} cannot be read: {error}") from error
    return [[number(cell) for cell in row] for row in rows]


def number(value):
    """A value as text, with at most four significant digits after the point.

    Whole numbers and texts stay as they are.
    """
    text = str(value)
    try:
        int(text)
    except ValueError:
        try:
            return f"{float(text):.4g}"
        except ValueError:
            return text
    return text
