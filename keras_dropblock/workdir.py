"""The folder of a run: whose it is, and what made it."""

import contextlib
import datetime
import json
import os
import platform
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import keras

from keras_dropblock import files, versions
from keras_dropblock.recipes import Recipe

_LOCK = ".lock"


class WorkdirError(ValueError):
    """A work directory that is another run's, or no work directory."""


@contextlib.contextmanager
def taken(workdir, recipe):
    """Make a folder this recipe's, and keep other processes out meanwhile.

    Of processes that start together with different recipes one has the
    folder, and the others leave nothing in it.

    Args:
        workdir: `pathlib.Path` of the folder, made if it is not there.
        recipe: resolved `Recipe`.

    Raises:
        WorkdirError: if the folder belongs to another recipe or to no run, or
            if another process trains in it.
    """
    # Before the lock, which would be left in the folder of somebody else.
    require_recipe(workdir, recipe)
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        claim(workdir, recipe)
        yield


def claim(workdir, recipe):
    """Make the work directory this recipe's, or refuse another's."""
    require_recipe(workdir, recipe)
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / "recipe.toml").exists():
        recipe.write(workdir / "recipe.toml")


def require_recipe(workdir, recipe):
    """Refuse a folder of another recipe, or with files of no run."""
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
    elif workdir.exists() and _foreign_files(workdir):
        raise WorkdirError(
            f"`workdir` {workdir} holds files but no recipe.toml: it is no "
            "work directory. Use an empty or a new folder."
        )


def _foreign_files(workdir):
    """Files that no run leaves before it has written its recipe."""
    own = {workdir / _LOCK, *files.temporaries(workdir)}
    return {*workdir.iterdir()} - own


@contextlib.contextmanager
def locked(workdir):
    """Keep other processes from training in the work directory meanwhile.

    The lock goes with the process, however that ends. On Windows, whose files
    lock otherwise, there is none.

    Raises:
        WorkdirError: if another process holds it.
    """
    if fcntl is None:
        yield
        return
    with open(workdir / _LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            number = file.read()  # none yet if it has just locked the folder
            who = f"process {number}" if number else "another process"
            raise WorkdirError(
                f"`workdir` {workdir} is in use: {who} trains in it. Wait for "
                "it, or stop it."
            ) from error
        file.truncate(0)
        print(os.getpid(), end="", file=file, flush=True)
        yield


def read_run(workdir):
    """What `run.json` tells of a run: see `Session`.

    Raises:
        WorkdirError: if it is damaged.
    """
    path = workdir / "run.json"
    try:
        run = json.loads(path.read_text("utf-8"))
        height, width, channels = run["image_shape"]
        sides = (height, width, channels, len(run["class_names"]))
        if not all(type(side) is int and side > 0 for side in sides):
            raise ValueError(f"sizes of {sides}")
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise WorkdirError(
            f"{path} is no run.json of a run: {type(error).__name__}: "
            f"{str(error)[:200]}. Put back the one that training wrote."
        ) from error
    return run


def require_unbegun(workdir):
    """Refuse to start a run anew whose backups are gone."""
    if (workdir / "run.json").exists():
        raise WorkdirError(
            f"`workdir` {workdir} holds a run that has begun, but no backup of "
            f"it. Put {workdir / 'backup' / 'last.npz'} back, or train from "
            "the start in another work directory."
        )


def forget_epochs_from(done, history):
    """Take out rows of epochs that were logged but not backed up."""
    if history.exists():
        lines = history.read_text("utf-8").splitlines(keepends=True)
        files.write_text(history, "".join(lines[: done + 1]))


class Session:
    """One stretch of a run, from start or resume; told in `run.json`.

    The file holds the data's shape and classes, and a list of sessions with
    what produced each: versions, devices, commit, time.
    """

    def __init__(self, workdir, splits, epochs_done, steps_done):
        self.path = workdir / "run.json"
        self.started = time.monotonic()
        self.run = {
            "image_shape": list(splits.image_shape),
            "class_names": list(splits.class_names),
            "training_images": splits.size("train"),
            "test_images": splits.size("test"),
            "sessions": [],
        }
        if (epochs_done or steps_done) and self.path.exists():
            earlier = json.loads(self.path.read_text("utf-8"))["sessions"]
            self.run["sessions"] = earlier
        self.run["sessions"].append(
            {
                "after_epoch": epochs_done,
                "after_step": steps_done,  # of the next epoch
                **_environment(),
                "started": _now(),
            }
        )
        write_json(self.path, self.run)

    def finish(self):
        self.run["sessions"][-1] |= {
            "finished": _now(),
            "seconds": round(time.monotonic() - self.started, 1),
        }
        write_json(self.path, self.run)

    @property
    def duration(self):
        """What a finished session took, for people: `1:02:03`."""
        seconds = round(self.run["sessions"][-1]["seconds"])
        return str(datetime.timedelta(seconds=seconds))

    @property
    def devices(self):
        """Names of the devices, for people: `cpu:0 (tensorflow)`."""
        session = self.run["sessions"][-1]
        return f"{', '.join(session['devices'])} ({session['backend']})"


def _environment():
    names = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
    return {
        "backend": keras.backend.backend(),
        "devices": _devices(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "versions": versions.of(
            ("keras-dropblock", *names, "tensorflow-datasets")
        ),
        "commit": versions.commit(),
    }


def _devices():
    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    import torch  # Keras has no list for it

    return [
        torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
    ] or ["cpu"]


def _now():
    """The time of day as text, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path, content):
    """Write a JSON file whole or not at all."""
    files.write_text(path, json.dumps(content, indent=2) + "\n")
