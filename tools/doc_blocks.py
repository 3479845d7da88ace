"""The blocks of code in the README and in the pages of docs/.

`tests/test_readme.py` runs the Python code, page by page, and reads the TOML.
`tests/test_doc_commands.py` runs the commands of the pages in `COMMAND_PAGES`.
If the tests cannot run a block of these pages, a line above it says why, for
readers too:

    *Not run by the tests: needs several hosts.*

In other pages, a block of commands needs no such line.
"""

import pathlib
import re
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Pages whose commands are run, in order and in one folder.
COMMAND_PAGES = (
    "docs/start.md",
    "docs/training.md",
    "docs/models.md",
    "docs/finetuning.md",
    "docs/report.md",
    "docs/uncertainty.md",
)
ONLY_CHECKED = "only its flags, recipes and keys are checked"
# Any block, because the end of one fence looks like the start of another.
BLOCK = re.compile(
    r"(?:^\*Not run by the tests: (?P<reason>[^*]+)\.\*\n\n)?"
    r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```",
    re.M | re.S,
)
COMMAND = re.compile(
    r"(?:keras-dropblock-\w+|make|python|pip|source|export|curl|docker"
    r"|optuna-dashboard) "
)


class Block(typing.NamedTuple):
    """One block of code.

    Attributes:
        page: path of the page, relative to the checkout.
        line: number of the line of the page before the code.
        kind: `"python"`, `"commands"`, `"toml"` or `"other"`.
        reason: why the tests do not run it, or None if they do.
        code: the text of the block.
    """

    page: str
    line: int
    kind: str
    reason: str | None
    code: str


def pages():
    """The README and all pages of docs/, as paths."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, kind="python"):
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = []
    for match in BLOCK.finditer(text):
        code, reason = match["code"], match["reason"]
        if _kind(match["language"], code) != kind:
            continue
        if kind == "commands" and not (
            reason or name in COMMAND_PAGES or is_run_by_ci(code)
        ):
            reason = ONLY_CHECKED
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(name, line, kind, reason, code))
    return found


def all_blocks(kind="python"):
    """The blocks of all pages, in order."""
    return [block for page in pages() for block in blocks(page, kind)]


def is_run_by_ci(code):
    """Whether `.ci/run` has each line of a block: `make quickstart`."""
    ci = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    return {*code.splitlines()} <= {*ci}


def _kind(language, code):
    if language in ("", "bash"):
        return "commands" if COMMAND.match(code) else "other"
    return language if language in ("python", "toml") else "other"
