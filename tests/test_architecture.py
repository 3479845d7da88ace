"""Imports point downwards, inside functions too."""

import ast
import pathlib
import re
import tomllib

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_dropblock"

# A part may import the parts in the lines above its own. Parts in the same line
# do not import each other, except in the first line.
LEVELS = (
    {"startup", "errors", "files", "schedules", "keys", "optimizers"},
    {"layers", "data"},
    {"callbacks", "models"},
    {"analysis"},
    {"tasks"},
    {"hub"},
    {"exports"},
    {"runs"},
    {"report"},
    {"training"},
    {"search"},
    {"cli"},
)
# `WRN(..., weights="cifar10")` needs the hub, and a saved network has a card.
UPWARDS = {("models/network.py", "hub")}
KERAS_FREE = ("startup", "errors", "files", "keys", "schedules")
# Heavy or optional packages.
ONLY_INSIDE_FUNCTIONS = {
    "PIL",
    "ai_edge_litert",
    "jax",
    "jinja2",
    "keras_hub",
    "matplotlib",
    "onnx",
    "optuna",
    "scipy",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
}


def imports(path):
    """The modules that a file imports, with `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts():
    """(part, file) for each file of the package that belongs to a part."""
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__"):
            yield part, path


def level(part):
    (found,) = (i for i, level in enumerate(LEVELS) if part in level)
    return found


def test_every_part_has_a_level_and_every_level_its_parts():
    assert {part for part, _ in parts()} == set().union(*LEVELS)


def test_imports_point_downwards():
    wrong = set()
    for part, path in parts():
        for name in imports(path):
            if not name.startswith("keras_dropblock."):
                continue
            other = name.split(".")[1]
            below = level(other) < level(part) or level(other) == 0
            if other != part and not below:
                wrong.add((str(path.relative_to(PACKAGE)), other))
    assert wrong == UPWARDS


def test_modules_that_do_not_need_keras_do_not_import_it():
    for part, path in parts():
        if part in KERAS_FREE:
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & {"keras", "tensorflow", "numpy"}, path


# Their classes extend those of KerasHub. They are imported inside functions.
EXTENSIONS = (
    "tasks/hub_models.py",
    "tasks/matching.py",
    "tasks/retinanet.py",
    "tasks/suppression.py",
)


def test_heavy_packages_are_imported_only_inside_functions():
    for part, path in parts():
        if str(path.relative_to(PACKAGE)) in EXTENSIONS:
            continue
        # The package `search` as a whole needs Optuna.
        heavy = ONLY_INSIDE_FUNCTIONS - (
            {"optuna"} if part == "search" else set()
        )
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in heavy, path


def test_only_commands_define_flags():
    for part, path in parts():
        if part != "cli":
            assert not any(name.startswith("absl") for name in imports(path))


def test_only_tasks_and_analysis_name_a_tasks_metrics():
    words = ("accuracy", "nll", "ece")
    for part, path in parts():
        if part in ("tasks", "analysis"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute | ast.arg):
                names = [getattr(node, x, "") for x in ("id", "attr", "arg")]
                text = " ".join(map(str, names))
            elif isinstance(node, ast.Constant):
                text = "" if node.value in docstrings else str(node.value)
            else:
                continue
            found = {*re.findall("[a-z0-9]+", text.lower())} & {*words}
            assert not found, f"{path}:{node.lineno} names {found}"


def test_every_command_has_its_console_script_and_its_module_name():
    from keras_dropblock.__main__ import COMMANDS

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    commands = {
        path.stem
        for path in PACKAGE.glob("cli/*.py")
        if "def main()" in path.read_text("utf-8")
    }
    assert {*COMMANDS} == commands
    assert project["project"]["scripts"] == {
        f"keras-dropblock-{name}": f"keras_dropblock.cli.{name}:main"
        for name in commands
    }
