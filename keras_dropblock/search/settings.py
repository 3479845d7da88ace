"""Settings of a search: the table `[search]` of a TOML file."""

import dataclasses
import math

from keras_dropblock import keys
from keras_dropblock.errors import RecipeError
from keras_dropblock.keys import choice, key

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "hyperband")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a search. The keys of the table `[search]`."""

    sampler: str = choice(
        "tpe",
        "tpe: Optuna's tree-structured Parzen estimator; random; grid: every "
        "combination of the values once",
        SAMPLERS,
    )
    pruner: str = choice(
        "none",
        "stops bad trials early, by the score after each epoch of their first "
        "seed; median: worse than the median of the earlier trials; hyperband",
        PRUNERS,
    )
    trials: int | None = key(
        None,
        "trials of the whole search, over all workers; None: all points of a "
        "grid",
        ">= 1",
        keys.is_at_least_one,
    )
    seeds: int = key(
        1,
        "runs of each trial, with seeds that count up",
        ">= 1",
        keys.is_at_least_one,
    )
    confirm: int = key(
        0,
        "points with the best scores that are trained again at the end, on "
        "the whole training set, and evaluated on the test set",
        ">= 0",
        keys.is_not_negative,
    )
    confirm_seeds: int = key(
        5,
        "runs of each of these points, with new seeds",
        ">= 1",
        keys.is_at_least_one,
    )
    storage: str | None = key(
        None,
        "URL of a database, such as postgresql://user@host/name, or "
        "grpc://host:port; None: a file of SQLite in the work directory",
    )
    study: str | None = key(
        None, "name of the study in the storage; None: the work directory's"
    )
    grace_seconds: float = key(
        120.0,
        "time without a sign of life after which the trial of a worker is "
        "given to another one",
        ">= 2 and finite",
        lambda x: 2 <= x < math.inf,
    )

    def __post_init__(self):
        keys.check_keys(self)
        if self.trials is None and self.sampler != "grid":
            raise RecipeError(
                "`trials` must be given with sampler "
                f"{self.sampler}: it is the number of trials over all "
                "workers. Received: trials=None."
            )

    @classmethod
    def of(cls, values, source):
        """Settings from a dict. Errors name the source.

        Raises:
            RecipeError: for an unknown name or an invalid value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise RecipeError(
                    f"{source}: unknown key `{name[: keys.LONGEST]}`. Did you "
                    f"mean `{keys.nearest(name, known)}`?"
                )
        try:
            return cls(**values)
        except RecipeError as error:
            raise RecipeError(f"{source}: {error}") from error
