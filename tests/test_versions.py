"""Commits and versions that runs and results record."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys

import pytest

from keras_dropblock.runs import versions

VERSIONS = "keras_dropblock/runs/versions.py"


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of one commit with a package in it."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    # Isolate git from variables and settings of this machine.
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no_settings"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    root = tmp_path / "checkout"
    (root / "keras_dropblock" / "data").mkdir(parents=True)
    (root / "keras_dropblock" / "runs").mkdir()
    (root / "benchmarks").mkdir()
    shutil.copy(versions.__file__, root / VERSIONS)
    for name in (
        "keras_dropblock/__init__.py",
        "keras_dropblock/data/images.py",
        "README.md",
        "benchmarks/layer.py",
    ):
        (root / name).write_text("# as committed\n")
    (root / ".gitignore").write_text("*.pyc\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=one")
    return root


def commit_of(root, *files):
    """The commit that the package in a checkout reports."""
    path = root / VERSIONS
    spec = importlib.util.spec_from_file_location("versions_there", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commit(*files)


def test_a_clean_checkout_gives_its_last_commit(checkout):
    first = commit_of(checkout)
    assert first == git(checkout, "rev-parse", "HEAD") and len(first) == 40
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=two")
    second = commit_of(checkout)
    assert second == git(checkout, "rev-parse", "HEAD") != first


def edited(root):
    (root / "keras_dropblock" / "data" / "images.py").write_text("# other\n")


def added(root):
    (root / "keras_dropblock" / "new.py").write_text("# not committed\n")


def removed(root):
    (root / "keras_dropblock" / "data" / "images.py").unlink()


def staged(root):
    edited(root)
    git(root, "add", "--all")


@pytest.mark.parametrize("change", [edited, added, removed, staged])
def test_changes_in_the_package_are_reported(checkout, change):
    head = commit_of(checkout)
    change(checkout)
    assert commit_of(checkout) == f"{head} with changes"
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message=two")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") != head


def test_changes_in_other_files_are_reported_if_the_files_are_given(checkout):
    head = commit_of(checkout)
    (checkout / "keras_dropblock" / "images.pyc").write_bytes(b"ignored")
    for name in ("README.md", "benchmarks/layer.py"):
        (checkout / name).write_text("# other\n")
        assert commit_of(checkout) == head
    asked = [checkout / "benchmarks" / "layer.py"]
    assert commit_of(checkout, *asked) == f"{head} with changes"
    git(checkout, "checkout", "--", "benchmarks")
    assert commit_of(checkout, *asked) == head


def test_a_package_outside_a_repository_has_no_commit(checkout, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(checkout, alone)
    shutil.rmtree(alone / ".git")
    assert commit_of(alone) is None
    # Installed into an environment inside another repository.
    inside = checkout / "environment"
    shutil.copytree(alone, inside)
    assert commit_of(inside) is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    assert commit_of(checkout) is not None
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout) is None


def test_versions_are_those_of_the_installed_packages():
    found = versions.of(["numpy", "no-such-package"])
    assert found == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": importlib.metadata.version("numpy"),
    }
