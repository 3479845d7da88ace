"""The work directory of a run during training: its lock and its record."""

import contextlib
import datetime
import os
import platform
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import keras

from keras_dropblock import files
from keras_dropblock.errors import WorkdirError
from keras_dropblock.runs import versions

RECIPE = "recipe.toml"
RUN = "run.json"
HISTORY = "history.csv"
METRICS = "metrics.json"
WEIGHTS = "model.weights.h5"
PREDICTIONS = "predictions"
_LOCK = ".lock"


@contextlib.contextmanager
def taken(workdir, recipe):
    """A context that claims a folder for a recipe and locks it.

    If several processes with different recipes start at the same time, one
    gets the folder. The others raise an error and leave no files in it.

    Args:
        workdir: `pathlib.Path` of the folder. It is created if it does not
            exist.
        recipe: resolved `Recipe`.

    Raises:
        WorkdirError: if the folder belongs to another recipe, holds files
            that are not of a run, or another process trains in it.
    """
    # Check before locking: the lock file must not be left in a folder that is
    # not a work directory of this recipe.
    has_recipe(workdir, recipe)
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        if not has_recipe(workdir, recipe):
            recipe.write(workdir / RECIPE)
        yield


def has_recipe(workdir, recipe):
    """Whether a folder already is a work directory of this recipe.

    Raises:
        WorkdirError: if it belongs to another recipe, or holds files that are
            not of a run.
    """
    path = workdir / RECIPE
    if path.exists():
        there, now = type(recipe).from_toml(path).flat(), recipe.flat()
        changed = [
            f"{key} ({there.get(key)!r} there, {now.get(key)!r} now)"
            for key in {**there, **now}
            if there.get(key) != now.get(key)
        ]
        if changed:
            raise WorkdirError(
                f"`workdir` {workdir} belongs to another recipe: it differs in "
                f"{', '.join(changed)}. Use another work directory."
            )
        return True
    if workdir.exists() and _foreign_files(workdir):
        raise WorkdirError(
            f"`workdir` {workdir} holds files but no {RECIPE}: it is not a "
            "work directory. Use an empty or a new folder."
        )
    return False


def _foreign_files(workdir):
    """Files that do not come from a run.

    A run that was killed before it wrote its recipe can leave a lock and
    temporary files.
    """
    own = {workdir / _LOCK, *files.temporaries(workdir)}
    return {*workdir.iterdir()} - own


@contextlib.contextmanager
def locked(workdir):
    """A context in which no other process can train in the work directory.

    The system releases the lock when the process ends, even if it is killed.
    On Windows, which has no `fcntl`, nothing is locked.

    Raises:
        WorkdirError: if another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    with open(workdir / _LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            number = file.read()  # empty if the other has only just locked it
            who = f"process {number}" if number else "another process"
            raise WorkdirError(
                f"`workdir` {workdir} is in use: {who} trains in it. Wait "
                "until it ends, or stop it."
            ) from error
        file.truncate(0)
        print(os.getpid(), end="", file=file, flush=True)
        yield


def read_json(path):
    """Read a JSON file of a run into a dict.

    Raises:
        WorkdirError: if the file cannot be read or is damaged.
    """
    try:
        return files.parse_json(path.read_bytes(), allow_nan=True)
    except (OSError, ValueError) as error:
        raise WorkdirError(
            f"{path} {error} Restore the file that training wrote."
        ) from error


def require_unbegun(workdir):
    """Raise `WorkdirError` if a run has begun but has no checkpoint.

    Starting again would silently discard its epochs.
    """
    if (workdir / RUN).exists():
        raise WorkdirError(
            f"`workdir` {workdir} holds a run that has begun, but no "
            f"checkpoint of it. Restore {workdir / 'backup' / 'last.npz'}, or "
            "train from the start in another work directory."
        )


def forget_epochs_from(done, history):
    """Remove the rows of epochs that the last checkpoint does not include.

    The columns `val_NAME` of version 0.1, which held scores of the test split,
    are renamed to `test_NAME`.

    Args:
        done: number of epochs to keep.
        history: `pathlib.Path` of `history.csv`, which may be missing.
    """
    if history.exists():
        lines = history.read_text("utf-8").splitlines(keepends=True)
        lines[:1] = [line.replace(",val_", ",test_") for line in lines[:1]]
        files.write_text(history, "".join(lines[: done + 1]))


class Session:
    """One start or resume of a run, recorded in `run.json`.

    The file holds the number of images in each split and a list of sessions,
    each with its versions, devices, commit and times.
    """

    def __init__(self, workdir, dataset, epochs_done, steps_done):
        self.path = workdir / RUN
        self.started = time.monotonic()
        self.run = {
            "images": {name: dataset.size(name) for name in dataset.splits},
            "sessions": [],
        }
        if (epochs_done or steps_done) and self.path.exists():
            earlier = read_json(self.path)["sessions"]
            self.run["sessions"] = earlier
        self.run["sessions"].append(
            {
                "after_epoch": epochs_done,
                "after_step": steps_done,  # of the next epoch
                **_environment(),
                "started": _now(),
            }
        )
        files.write_json(self.path, self.run)

    def finish(self):
        self.run["sessions"][-1] |= {
            "finished": _now(),
            "seconds": round(time.monotonic() - self.started, 1),
        }
        files.write_json(self.path, self.run)

    @property
    def duration(self):
        """Duration of a finished session as readable text: `1:02:03`."""
        seconds = round(self.run["sessions"][-1]["seconds"])
        return str(datetime.timedelta(seconds=seconds))

    @property
    def devices(self):
        """Names of the devices as readable text: `cpu:0 (tensorflow)`."""
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
    import torch  # `list_devices` does not support torch

    return [
        torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
    ] or ["cpu"]


def _now():
    """The current date and time in UTC, as an ISO 8601 string."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
