"""What code a result comes from: packages by version, this one by commit."""

import contextlib
import importlib.metadata
import pathlib
import platform
import subprocess


def of(packages):
    """Versions of Python and of those packages that are installed.

    Args:
        packages: names, as they are installed by.

    Returns:
        Dict from name to version.
    """
    versions = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def commit(*files):
    """Commit of the checkout this package runs from; None if it is none.

    Args:
        *files: of the checkout, whose changes are told as the package's.
    """
    here = pathlib.Path(__file__).parent

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--", ".", *files)
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
