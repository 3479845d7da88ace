"""Parts of the documentation that are made from the code.

A page contains

    ```{generated} recipe_keys
    ```

and the build puts the Markdown text there that the function of this name in
`PARTS` returns. This module is an extension of Sphinx: see docs/conf.py.
"""

import dataclasses
import inspect
import os
import pathlib
import re
import subprocess
import sys

from sphinx.util.docutils import SphinxDirective

import doc_blocks
from keras_dropblock import errors, keys, tasks
from keras_dropblock.__main__ import COMMANDS
from keras_dropblock.analysis import drop_fractions
from keras_dropblock.training.recipe import Recipe

CODE = re.compile(r"(^ *(?:>>>|\.\.\.) .*$|(?<!`)`[^`]+`(?!`))", re.M)
SPECIAL = re.compile(r"(?<!\\)(?:[*|]|(?<=\w)_(?!\w))")
ROOT = pathlib.Path(__file__).resolve().parents[1]


def recipe_keys():
    """The keys of every recipe."""
    yield "`task`: default `classification`. What is trained: "
    yield ", ".join(f"`{name}`" for name in tasks.TASKS)
    yield ", or `module:Class` for a task of your own.\n"
    yield from _keys_of(Recipe)


def task_keys():
    """The keys of each task, a section for each."""
    for name in tasks.TASKS:
        kind = tasks.find(name)
        if dataclasses.fields(kind):
            yield f'\n## Keys of `task = "{name}"`\n'
            yield from _keys_of(kind)


def _keys_of(kind):
    yield "\n| key | default | range | meaning |\n|---|---|---|---|\n"
    for field in dataclasses.fields(kind):
        if "about" in field.metadata:
            default = field.default
            default = list(default) if isinstance(default, tuple) else default
            cells = [
                f"`{field.name}`",
                f"`{_toml(default)}`",
                field.metadata["rule"] or keys.type_name(field),
                field.metadata["about"],
            ]
            yield f"| {' | '.join(map(_cell, cells))} |\n"


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    return "None" if value is None else repr(value).replace("'", '"')


def _cell(text):
    return text.replace("|", "\\|").replace("*", "\\*")


def commands():
    """The help of every command, as it prints it."""
    environment = os.environ | {"COLUMNS": "80"}
    running = {
        command: subprocess.Popen(
            [sys.executable, "-m", "keras_dropblock", command, "--help"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command in COMMANDS
    }
    for command, process in running.items():
        text, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{command} --help exited with an error.")
        yield f"\n## keras-dropblock-{command}\n\n"
        yield f"```text\n{text.strip()}\n```\n"


def exit_codes():
    """Each class of errors with its exit code."""
    yield "| error | exit code | also a | meaning |\n|---|---|---|---|\n"
    for name, kind in vars(errors).items():
        if inspect.isclass(kind):
            builtin = [
                base.__name__
                for base in kind.__bases__
                if base.__module__ == "builtins" and base is not Exception
            ]
            code = "128 + signal"
            if kind is not errors.Interrupted:
                code = str(kind.exit_code)
            meaning = inspect.getdoc(kind).splitlines()[0]
            base = f"`{builtin[0]}`" if builtin else ""
            yield f"| `{name}` | {code} | {base} | {meaning} |\n"


def fractions_of_dropped_units():
    """Expected drop fractions for usual maps, blocks and keep_prob."""
    rates = (0.975, 0.95, 0.9, 0.75)
    heads = [f"keep_prob {keep_prob:g}" for keep_prob in rates]
    yield f"| map | block_size | {' | '.join(heads)} |\n"
    yield f"|---|---:|{'---:|' * len(rates)}\n"
    for side in (56, 32, 28, 16, 14, 8, 7):
        for block_size in (3, 5, 7):
            shares = [
                drop_fractions.expected(keep_prob, block_size, side)
                for keep_prob in rates
            ]
            cells = [f"{100 * share:.2f} %" for share in shares]
            # With no-break spaces, so that the cell stays on one line.
            row = [f"{side}\xa0x\xa0{side}", f"{block_size}", *cells]
            yield f"| {' | '.join(row)} |\n"


def blocks_not_run():
    """The blocks of code in the documentation that no test runs."""
    for kind, name in (("python", "Python code"), ("commands", "commands")):
        every = doc_blocks.all_blocks(kind)
        blocks = [block for block in every if block.reason]
        yield f"\nOf {len(every)} blocks of {name} in the README and in docs/, "
        yield f"the tests do not run {len(blocks)}:\n\n"
        yield "| page | line | reason |\n|---|---:|---|\n"
        for block in blocks:
            yield f"| {block.page} | {block.line} | {block.reason} |\n"


def demo_link():
    """A link to the demo, if `make demo` has built it."""
    if (ROOT / "build" / "demo" / "index.html").exists():
        yield '<a href="demo/index.html">Open the demo here</a>, if this site '
        yield "is served over HTTP.\n"


PARTS = {
    part.__name__: part
    for part in (
        recipe_keys,
        task_keys,
        commands,
        exit_codes,
        fractions_of_dropped_units,
        blocks_not_run,
        demo_link,
    )
}


class Generated(SphinxDirective):
    """`{generated} NAME`: the text of `PARTS[NAME]`, as Markdown."""

    required_arguments = 1

    def run(self):
        # The page changes with the code, so it is read in every build.
        self.env.note_reread()
        text = "".join(PARTS[self.arguments[0]]())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def markup(app, what, name, obj, options, lines):
    """Make a docstring of this package valid reStructuredText.

    Docstrings write code in single backticks, as in Markdown, and a plural s
    may follow. Outside of code, characters that are markup in
    reStructuredText are escaped.
    """
    parts = CODE.split("\n".join(lines))
    for i, part in enumerate(parts):
        if i % 2:  # code
            if re.match(r"\w", parts[i + 1]):
                parts[i] += r"\ "
        else:
            parts[i] = SPECIAL.sub(r"\\\g<0>", part)
    lines[:] = "".join(parts).split("\n")


def signature(app, what, name, obj, options, arguments, returned):
    """The arguments of a class: those of `__init__`, without `*positional`.

    `keras.Layer` has a `__new__` with `*args, **kwargs`, which Sphinx would
    show instead.
    """
    if what != "class" or arguments is None or "__init__" not in dir(obj):
        return None
    found = inspect.signature(obj.__init__)
    kept = [
        parameter
        for parameter in list(found.parameters.values())[1:]
        if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    return str(found.replace(parameters=kept)), returned


def setup(app):
    app.connect("autodoc-process-signature", signature)
    # Before napoleon, which parses the sections of docstrings.
    app.connect("autodoc-process-docstring", markup, priority=100)
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
