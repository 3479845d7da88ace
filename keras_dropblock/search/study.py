"""A study: trials in a storage that any number of workers share."""

import dataclasses
import pathlib
import typing

import optuna
from optuna.trial import TrialState

from keras_dropblock.search import storage as storages
from keras_dropblock.search.storage import number_of


@dataclasses.dataclass(frozen=True)
class Study:
    """A study with a fixed number of trials.

    Attributes:
        name: name in the storage.
        storage: Optuna storage. It may be unreachable for some minutes.
        higher_is_better: direction of the values.
        distributions: dict from the name of each parameter to its Optuna
            distribution.
        sampler: function from the place of a trial, counted from 0, to an
            Optuna sampler. A trial therefore depends neither on the worker
            that samples it nor on earlier interruptions.
        pruner: Optuna pruner.
        trials: number of trials, over all workers.
        grace_seconds: time without a heartbeat after which another worker
            resumes a trial.
        lock: file that workers on one file system lock while they take a
            trial. Without it, two workers may create one trial too many,
            which is then not run.
    """

    name: str
    storage: typing.Any
    higher_is_better: bool
    distributions: dict
    sampler: typing.Callable
    pruner: typing.Any
    trials: int
    grace_seconds: float
    lock: pathlib.Path | None = None

    def load(self, sampler=None):
        """The current state of the study. It is created if it is missing."""
        return optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            sampler=sampler,
            pruner=self.pruner,
            direction="maximize" if self.higher_is_better else "minimize",
            load_if_exists=True,
        )

    def latest(self):
        """The last attempt of each trial. Surplus trials do not count.

        Returns:
            A dict from the number of each trial to its `FrozenTrial`.
        """
        trials = {}
        for trial in self.load().get_trials(deepcopy=False):
            if not trial.user_attrs.get("surplus"):
                trials[number_of(trial)] = trial
        return trials

    def put_back_failed(self):
        """Put back the trials that failed."""
        for trial in self.latest().values():
            if trial.state == TrialState.FAIL:
                storages.requeue(None)(self.load(), trial)


def put_back(loaded, number, retries):
    """End a running trial, and create a trial that resumes it.

    Args:
        loaded: `optuna.Study`.
        number: number of the running trial.
        retries: how often this may happen to a trial. None: always.
    """
    try:
        trial = loaded.tell(number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return  # another worker has ended it
    storages.requeue(retries)(loaded, trial)


def place(trials, number):
    """Number of trials that were created before the trial with this number.

    Second attempts and surplus trials do not count.
    """
    return sum(
        t.number < number
        and number_of(t) == t.number
        and not t.user_attrs.get("surplus")
        for t in trials
    )


def beat(study, trial):
    """Record that the worker of a trial is alive."""
    storage = study.storage
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.record_heartbeat(
            storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(study.name), trial.number
            )
        )


class SamplerByPlace(optuna.samplers.BaseSampler):
    """Delegates each trial to the sampler that belongs to its place.

    Args:
        study: `Study`.
    """

    def __init__(self, study):
        self._study = study

    def before_trial(self, study, trial):
        # With Hyperband, `study` shows only the trials of one bracket.
        trials = self._study.load().get_trials(deepcopy=False)
        self._inner = self._study.sampler(place(trials, trial.number))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(self, *arguments):
        return self._inner.sample_independent(*arguments)
