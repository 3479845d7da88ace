"""The code in the README and in docs/ runs without changes."""

import re
import shlex

import keras
import pytest

import doc_blocks
from keras_dropblock import Recipe
from keras_dropblock.__main__ import COMMANDS

ROOT = doc_blocks.ROOT
BLOCKS = {page: doc_blocks.blocks(page) for page in doc_blocks.pages()}
# Pages whose code takes longer than about ten seconds.
SLOW = ("export",)
PAGES = [
    pytest.param(
        blocks,
        id=page.stem,
        marks=pytest.mark.slow if page.stem in SLOW else (),
    )
    for page, blocks in BLOCKS.items()
    if any(block.reason is None for block in blocks)
]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("blocks", PAGES)
def test_python_blocks_run_in_order_in_any_folder(
    blocks, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "wrn_16_1_cifar10_dropblock"):
        # must not hide the data set or model of this name
        (tmp_path / name).mkdir()
    if blocks[0].page == "docs/report.md":
        from test_report import write_run

        for name in ("plain", "dropblock"):  # its commands train them
            write_run(tmp_path / "runs" / name, [0.1, 0.2, 0.3])
    code = "".join(block.code for block in blocks if block.reason is None)
    for package in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        pytest.importorskip(package)
    exec(code, {})  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    # `print(...)  # TEXT` prints the text.
    expected = re.findall(r"^print\(.*\)  # (.+)$", code, re.M)
    assert [line for line in expected if line not in printed] == []
    keras.utils.clear_session()


def test_every_page_is_found_and_most_blocks_run():
    blocks = [block for page in BLOCKS.values() for block in page]
    count = sum(page.read_text("utf-8").count("```python\n") for page in BLOCKS)
    assert len(blocks) == count >= 15
    skipped = [block for block in blocks if block.reason]
    assert all(block.reason.startswith("needs ") for block in skipped)
    assert len(skipped) < len(blocks) / 2


def test_every_command_of_this_package_is_in_a_block_of_commands():
    blocks = doc_blocks.all_blocks("commands")
    code = "".join(block.code for block in blocks).replace("\\\n", " ")
    found = re.findall(r"^keras-dropblock-", code, re.M)
    assert len(found) == len([*commands()])
    run = [block.page for block in blocks if block.reason is None]
    assert {*run} == {*doc_blocks.COMMAND_PAGES, "README.md"}
    # `make quickstart`, and nothing else of the README
    assert run.count("README.md") == 1


def test_recipes_and_searches_in_pages_are_valid(tmp_path):
    pytest.importorskip("optuna")
    from keras_dropblock.search import settings, space

    blocks = doc_blocks.all_blocks("toml")
    assert blocks
    for i, block in enumerate(blocks):
        path = tmp_path / f"{i}.toml"
        path.write_text(block.code, "utf-8")
        recipe, search = Recipe.from_toml_with(path, "search")
        spaces = search.pop("space", {})
        if search:
            settings.Settings.of(search, block.page)
            assert space.checked(recipe, spaces).keys() == spaces.keys()


def commands():
    """(page, words) of each command of this package in a block of a page."""
    for page in BLOCKS:
        text = page.read_text("utf-8")
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.match(r"(?:\S+/)?keras-dropblock-\w.*", line):
                    yield page.name, shlex.split(match[0], comments=True)


def flags(command):
    """The flags of a command, and those that some commands share."""
    for name in (command, "out", "recipe", "trained", "workdir"):
        path = ROOT / "keras_dropblock" / "cli" / f"{name}.py"
        yield from re.findall(
            r'flags\.DEFINE_\w+\(\s*"(\w+)"', path.read_text("utf-8")
        )


def test_commands_have_known_flags_recipes_and_keys():
    found = [*commands()]
    assert len(found) >= 20
    for page, words in found:
        try:
            check(words)
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"{page}: {' '.join(words)}") from error


def check(words):
    """Check the words of a command."""
    command = words[0].rpartition("keras-dropblock-")[2]
    assert command in COMMANDS
    recipe, changes = Recipe(), []
    words = iter(words[1:])
    for word in words:
        if not word.startswith("--"):
            continue
        name, separator, value = word[2:].partition("=")
        assert name in flags(command), word
        if name == "set" and not separator:
            value = next(words)
        if name == "recipe" and value.startswith("training/"):
            recipe = Recipe.from_toml(ROOT / value)
        if name == "set":
            changes.append(value)
    recipe.override(changes)


def test_the_page_for_contributors_lists_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    targets = set(re.findall(r"^make ([\w-]+)", ci, re.M))
    assert {"lint", "test", "docs"} < targets
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert targets == set(re.findall(r"^\| `make ([\w-]+)`", text, re.M))


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150


def test_links_lead_to_files():
    for page in (*BLOCKS, ROOT / "CONTRIBUTING.md"):
        text = page.read_text("utf-8")
        text = re.sub("^```.*?^```", "", text, flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_paths_in_the_readme_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    paths = re.findall(r"(?:training|docs|notebooks)/[\w/.]+\.\w+", text)
    assert len(paths) >= 10
    for path in paths:
        assert (ROOT / path).exists(), path
