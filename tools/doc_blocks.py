"""The blocks of Python code in the README and in the pages of docs/.

`tests/test_readme.py` runs them, page by page. A block that it cannot run has a
line above it that says why, for readers too:

    *Not run by the tests: needs several hosts.*
"""

import pathlib
import re
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(?:^\*Not run by the tests: (?P<reason>[^*]+)\.\*\n\n)?"
    r"^```python\n(?P<code>.*?)^```",
    re.M | re.S,
)


class Block(typing.NamedTuple):
    """One block of code.

    Attributes:
        page: path of the page, relative to the checkout.
        line: number of the line of the page before the code.
        reason: why the tests do not run it, or None if they do.
        code: the text of the block.
    """

    page: str
    line: int
    reason: str | None
    code: str


def pages():
    """The README and all pages of docs/, as paths."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            text.count("\n", 0, match.start("code")),
            match["reason"],
            match["code"],
        )
        for match in BLOCK.finditer(text)
    ]


def all_blocks():
    """The blocks of all pages, in order."""
    return [block for page in pages() for block in blocks(page)]
