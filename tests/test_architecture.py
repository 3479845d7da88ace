"""Imports never point upward."""

import ast
import pathlib
import tomllib

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_dropblock"

# What each part of the package may import of it.
MAY_IMPORT = {
    "files": set(),
    "schedules": set(),
    "recipe_text": set(),
    "recipes": {"files", "recipe_text", "schedules"},
    "grids": {"recipe_text", "recipes"},
    "layers": set(),
    "data": set(),
    "optimizers": set(),
    "processes": set(),
    "strategies": {"processes", "recipes"},
    "callbacks": {"files", "layers", "schedules"},
    "backup": {"files", "processes", "workdir"},
    "stopping": {"backup", "processes"},
    "loop": {
        *("analysis", "callbacks", "layers", "processes", "schedules"),
        *("stopping", "strategies"),
    },
    "models": {"data", "files", "layers", "recipe_text", "recipes"},
    "analysis": {"data", "files", "grids", "layers", "models", "recipes"},
    "exporting": {"data", "files", "layers"},
    "predicting": {"data"},
    "versions": set(),
    "workdir": {"files", "recipes", "versions"},
    "assembly": {
        *("data", "layers", "models", "optimizers", "processes", "recipes"),
        "strategies",
    },
    "fitting": {
        *("analysis", "assembly", "backup", "files", "loop", "models"),
        *("processes", "recipes", "workdir"),
    },
    "sweeping": {
        *("analysis", "data", "files", "fitting", "grids", "recipes"),
        "workdir",
    },
    "finished": {"recipes", "workdir"},
    "publishing": {
        *("analysis", "assembly", "files", "finished", "fitting", "models"),
        "workdir",
    },
    "cli": {
        *("analysis", "backup", "cli", "data", "exporting", "files"),
        *("fitting", "grids", "models", "processes", "publishing", "recipes"),
        *("stopping", "sweeping", "workdir"),
    },
}
KERAS_FREE = (
    *("files", "schedules", "recipe_text", "recipes", "grids", "versions"),
)


def imports(path):
    """Names of modules that a file imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts():
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            yield part, path


def test_arrows_of_import_never_go_up():
    for part, path in parts():
        ours = {
            name.split(".")[1]
            for name in imports(path)
            if name.startswith("keras_dropblock.")
        }
        assert ours <= MAY_IMPORT[part] | {part}, path


def test_what_needs_no_keras_imports_none():
    for part, path in parts():
        if part in KERAS_FREE:
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & {"keras", "tensorflow", "numpy"}, path


def test_backends_are_imported_only_inside_functions():
    for _, path in parts():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in {
                    *("tensorflow", "jax", "torch", "matplotlib", "sklearn"),
                    *("tensorflow_datasets", "onnx", "ai_edge_litert"),
                }, path


def test_flags_are_in_the_commands_alone():
    for part, path in parts():
        if part != "cli":
            assert not any(name.startswith("absl") for name in imports(path))


def test_every_command_has_its_console_script():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    commands = {
        f"keras-dropblock-{path.stem}": f"keras_dropblock.cli.{path.stem}:main"
        for path in PACKAGE.glob("cli/*.py")
        if "def main()" in path.read_text("utf-8")
    }
    assert project["project"]["scripts"] == commands
