"""The folder of a run: whose it is, and what made it."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

import keras

from keras_dropblock import files
from keras_dropblock.recipes import Recipe


class WorkdirError(ValueError):
    """A work directory that is another run's, or no work directory."""


def claim(workdir, recipe):
    """Make the work directory this recipe's, or refuse another's."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "recipe.toml"
    if path.exists():
        there = Recipe.from_toml(path)
        changed = [
            f"{key} ({getattr(there, key)!r} there, {value!r} now)"
            for key, value in vars(recipe).items()
            if getattr(there, key) != value
        ]
        if changed:
            raise WorkdirError(
                f"`workdir` {workdir} belongs to another recipe: it differs in "
                f"{', '.join(changed)}. Use another work directory."
            )
    elif any(workdir.iterdir()):
        raise WorkdirError(
            f"`workdir` {workdir} holds files but no recipe.toml: it is no "
            "work directory. Use an empty or a new folder."
        )
    else:
        recipe.write(path)


def forget_epochs_from(done, history):
    """Take out rows of epochs that were logged but not backed up."""
    if history.exists():
        head, *rows = history.read_text("utf-8").splitlines(keepends=True)
        rows = [row for row in rows if int(row.split(",")[0]) < done]
        files.write_text(history, head + "".join(rows))


def run_info(splits):
    """What produced a run: data, devices, versions, commit, time."""
    names = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
    versions = {"python": platform.python_version()}
    for name in ("keras-dropblock", *names, "tensorflow-datasets"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "image_shape": list(splits.image_shape),
        "class_names": list(splits.class_names),
        "training_images": len(splits.x_train),
        "test_images": len(splits.x_test),
        "backend": keras.backend.backend(),
        "devices": keras.distribution.list_devices(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "versions": versions,
        "commit": _commit(),
        "started": now(),
    }


def _commit():
    """Commit of the checkout this package runs from; None if it is none."""
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
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def now():
    """The time of day as text, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path, content):
    """Write a JSON file whole or not at all."""
    files.write_text(path, json.dumps(content, indent=2) + "\n")
