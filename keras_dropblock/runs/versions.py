"""The code that produced a result: package versions and the git commit."""

import contextlib
import importlib.metadata
import pathlib
import platform
import subprocess


def of(packages):
    """Versions of Python and of the given packages that are installed.

    Args:
        packages: names of distributions, as in `pip install NAME`.

    Returns:
        A dict from name to version.
    """
    versions = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def commit(*files):
    """Git commit of the checkout that this package runs from.

    Args:
        *files: further files of the checkout to check for changes.

    Returns:
        The hash, followed by " with changes" if the package or one of `files`
        has uncommitted changes. None if the package is not in a checkout.
    """
    here = pathlib.Path(__file__).parents[1]  # the whole package

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
