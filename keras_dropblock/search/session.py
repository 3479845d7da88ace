"""A worker's session: join a search, run trials, write the results."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib

import optuna

from keras_dropblock.errors import RecipeError, WorkdirError
from keras_dropblock.search import confirmation, samplers
from keras_dropblock.search import space as spaces
from keras_dropblock.search.outputs import Outputs
from keras_dropblock.search.planned import TrialError, is_finished
from keras_dropblock.search.storage import close, open_storage, patiently
from keras_dropblock.search.study import Study
from keras_dropblock.search.trial import Objective
from keras_dropblock.search.worker import Worker

DATABASE = "study.db"


def search(
    recipe, space, settings, *, workdir, retry_failed=False, verbose="auto"
):
    """Search for the best point of a space, alone or with other workers.

    Points are compared by the main metric of the recipe's task on the
    validation split. The recipe must have one, because selecting a point by
    the test split would overfit the test split.

    Each run is a work directory of `trainer.fit`. Make the same call again to
    resume, or at the same time in other processes to share the work. A trial
    that fails is recorded, and the search continues with the next one. The
    search stops at errors that would repeat: a full disk, an interrupt, data
    that are missing for every run, a bug.

    Args:
        recipe: `Recipe`. Its seed is the first one of each trial, and the
            seed of the sampler.
        space: dict as for `space.checked`.
        settings: `Settings`.
        workdir: folder of the search. `trials.csv`, `best.toml`, plots and
            the page `search.html` are written there after each trial.
        retry_failed: whether to run failed trials again. Only one of the
            workers may set it.
        verbose: as in `trainer.fit`.

    Returns:
        `results.Results`.

    Raises:
        RecipeError: before the first trial, if a key or a value is invalid,
            or there is no validation split.
        WorkdirError: before the first trial, if the folder or the study
            belongs to another search.
        StorageError: if the storage cannot be reached.
        DataError: if the data of all trials are missing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workdir = pathlib.Path(workdir)
    space = spaces.checked(recipe, space)
    count = _trials(settings, space)
    _check_pruner(settings, space)
    confirmation.new_seeds(recipe, settings)
    objective = Objective(
        recipe,
        space,
        workdir,
        settings.seeds,
        named_by_values=settings.sampler == "grid",
        verbose=verbose,
    )
    if objective.named_by_values:
        _check_folders(objective)
    study = _study(objective, settings, count)
    try:
        _require_same_search(study, objective, settings)
        if retry_failed:
            study.put_back_failed()
        return _work(study, objective, settings)
    finally:
        close(study.storage)


def _work(study, objective, settings):
    """Run trials until all are finished, and confirm the best ones."""
    outputs = Outputs(study, objective)

    def after():
        print(f"\n{outputs.write().progress()}", flush=True)

    after()
    Worker(study, objective, (TrialError,), after=after).work()
    found = outputs.write(last=True)
    if settings.confirm:
        again = functools.partial(_study_of_confirmation, study)
        found = dataclasses.replace(
            found,
            confirmation=confirmation.confirm(
                found, objective, settings, again
            ),
        )
        outputs.write(last=True, confirmation=found.confirmation)
    return found


def _study_of_confirmation(study, points, distributions, sampler, trials):
    """The study that trains points again, beside the study of the search."""
    return dataclasses.replace(
        study,
        name=f"{study.name}-confirmed-{_digest(points, trials)}",
        distributions=distributions,
        sampler=sampler,
        pruner=optuna.pruners.NopPruner(),
        trials=trials,
    )


def _trials(settings, space):
    """The number of trials of a search."""
    if settings.sampler != "grid":
        return settings.trials
    for key, dimension in space.items():
        if dimension.grid() is None:
            raise RecipeError(
                f"--space: `{key}` must have a step or a list of values with "
                f"sampler grid. Received: {key}={dimension}."
            )
    size = math.prod(len(d.grid()) for d in space.values())
    return min(size, settings.trials or size)


def _check_pruner(settings, space):
    if settings.pruner != "none" and "epochs" in space:
        raise RecipeError(
            "--space: `epochs` cannot vary with a pruner, which compares "
            f"trials by epoch. Received: pruner={settings.pruner}."
        )


def _check_folders(objective):
    """Check that each run of a grid has a folder of its own."""
    owners = {}
    for point in spaces.points(
        {key: d.grid() for key, d in objective.space.items()}
    ):
        values = dict(zip(objective.space, point, strict=True))
        for run in objective.runs(0, values):
            other = owners.setdefault(run.workdir, point)
            if other is not point:
                raise RecipeError(
                    f"--space: {point} and {other} would share the folder "
                    f"{run.workdir.name}. Put them into separate searches."
                )
            is_finished(run)


def _study(objective, settings, count):
    workdir = objective.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    url = settings.storage
    if url is None:
        # Optuna formats the URL, so braces must be doubled.
        path = f"{workdir.resolve() / DATABASE}"
        url = f"sqlite:///{path.replace('{', '{{').replace('}', '}}')}"
    name = settings.study or workdir.resolve().name
    if objective.named_by_values:
        # Optuna cannot add values to a study, so each grid has its own study.
        name += f"-{_digest(_texts(objective.space), settings.seeds)}"
    return Study(
        name,
        open_storage(url, settings.grace_seconds),
        objective.main.higher_is_better,
        {key: d.distribution() for key, d in objective.space.items()},
        samplers.sampler_of(settings, objective.space, objective.recipe.seed),
        samplers.pruner_of(settings, objective.recipe.epochs),
        count,
        settings.grace_seconds,
        workdir / ".taking",
    )


def _require_same_search(study, objective, settings):
    """Raise unless all workers of a study have the same search."""
    ours = {
        **objective.recipe.flat(),
        "space": _texts(objective.space),
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seeds": settings.seeds,
    }
    ours = json.loads(json.dumps(ours))
    loaded = patiently(study.load)
    theirs = loaded.user_attrs.get("search")
    if theirs is None:
        loaded.set_user_attr("search", ours)
        return
    changed = [
        f"{key} ({theirs.get(key)!r} there, {ours.get(key)!r} now)"
        for key in {**theirs, **ours}
        if key != "data_dir" and theirs.get(key) != ours.get(key)
    ]
    if changed:
        raise WorkdirError(
            f"The study {study.name} belongs to another search: it differs in "
            f"{', '.join(changed)}. Use another `workdir` or `study`."
        )


def _texts(space):
    return {key: str(dimension) for key, dimension in space.items()}


def _digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
