"""A worker of a study: takes one trial after the other until all are done.

Any number of workers, on one or several hosts, may work on one study. They
share nothing but its storage.
"""

import contextlib
import threading
import time
import warnings

import optuna
from optuna.trial import TrialState

from keras_dropblock.errors import KerasDropBlockError
from keras_dropblock.search import storage as storages
from keras_dropblock.search.storage import experimental, number_of, patiently
from keras_dropblock.search.study import SamplerByPlace, beat, place, put_back

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Worker:
    """Runs trials until all trials of a study are finished.

    Trials whose worker stopped responding are resumed. At the end, the worker
    waits for the trials of the others, to resume them if needed.

    Args:
        study: `Study`.
        objective: function from an `optuna.Trial` to its value. It may raise
            `optuna.TrialPruned`.
        errors: types of exceptions of the objective after which only its
            trial counts as failed. After any other exception, the trial is
            put back, and the exception is raised.
        after: function that is called after each trial.
    """

    def __init__(self, study, objective, errors=(), after=None):
        self.study = study
        self.objective = objective
        self.errors = errors
        self.after = after or (lambda: None)
        self._silent_since = {}  # trials without a first heartbeat, by number

    def work(self):
        while True:
            trial = patiently(self._take)
            if trial is not None:
                self._run(trial)
                self.after()
            elif patiently(self._others_run):
                time.sleep(min(self.study.grace_seconds / 8, 5.0))
            else:
                return

    def _take(self):
        """Take a trial that was put back, or a new one, or None."""
        study = self.study
        with _locked(study.lock), experimental():
            loaded = study.load(SamplerByPlace(study))
            optuna.storages.fail_stale_trials(loaded)
            self._put_back_the_silent(loaded)
            trials = loaded.get_trials(deepcopy=False)
            waiting = any(t.state == TrialState.WAITING for t in trials)
            if not waiting and place(trials, len(trials)) >= study.trials:
                return None
            trial = _ask(loaded, study.distributions)
            beat(study, trial)
            trial.set_user_attr("has_heartbeat", trial.number)
            trials = loaded.get_trials(deepcopy=False)
            (here,) = (t for t in trials if t.number == trial.number)
            first = number_of(here) == here.number
            if first and place(trials, here.number) >= study.trials:
                trial.set_user_attr("surplus", True)
                loaded.tell(trial, state=TrialState.FAIL)
                return None
            return trial

    def _put_back_the_silent(self, loaded):
        """Put back trials whose worker died before its first heartbeat."""
        running = loaded.get_trials(deepcopy=False, states=_RUNNING)
        silent = {
            t.number: t
            for t in running
            if t.user_attrs.get("has_heartbeat") != t.number
        }
        now = time.monotonic()
        self._silent_since = {
            number: self._silent_since.get(number, now) for number in silent
        }
        for number, since in self._silent_since.items():
            if now - since > self.study.grace_seconds:
                put_back(loaded, number, storages.RETRIES)

    def _others_run(self):
        if not isinstance(self.study.storage, optuna.storages.RDBStorage):
            return False  # no heartbeat: nobody knows whether they are alive
        loaded = self.study.load()
        states = (TrialState.RUNNING, TrialState.WAITING)
        return bool(loaded.get_trials(deepcopy=False, states=states))

    def _run(self, trial):
        with _Heartbeat(self.study, trial):
            try:
                value = self.objective(trial)
                state, error = TrialState.COMPLETE, None
            except optuna.TrialPruned:
                value, state, error = None, TrialState.PRUNED, None
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # another worker took it over, or a user ended it
            except self.errors as reason:
                value, state, error = None, TrialState.FAIL, one_line(reason)
            except BaseException:
                with contextlib.suppress(Exception):
                    put_back(trial.study, trial.number, None)
                raise
            patiently(self._tell, trial, value, state, error)

    def _tell(self, trial, value, state, error):
        """Record the end of a trial, unless it is recorded already."""
        try:
            if error is not None:
                trial.set_user_attr("error", error)
            trial.study.tell(trial, value, state, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            return


def _ask(loaded, distributions):
    with warnings.catch_warnings():
        # This package records the heartbeat itself.
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
        return loaded.ask(distributions)


def one_line(error):
    """An error of this package as its message, another with its type."""
    if isinstance(error, KerasDropBlockError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Heartbeat(threading.Thread):
    """A context in which the heartbeat of a trial is recorded.

    Optuna's own thread ends at the first error of the storage.
    """

    def __init__(self, study, trial):
        super().__init__(daemon=True)
        self.study, self.trial = study, trial
        self._ended = threading.Event()

    def run(self):
        while not self._ended.wait(self.study.grace_seconds / 8):
            with contextlib.suppress(Exception):
                beat(self.study, self.trial)
        self.study.storage.remove_session()

    def __enter__(self):
        self.start()

    def __exit__(self, *error):
        self._ended.set()
        self.join()


@contextlib.contextmanager
def _locked(path):
    if path is None or fcntl is None:
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_RUNNING = (TrialState.RUNNING,)
