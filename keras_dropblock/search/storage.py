"""The storage of a study: a database that all workers share."""

import contextlib
import re
import time
import warnings

import optuna
import sqlalchemy

from keras_dropblock.errors import MissingExtraError, StorageError

PATIENCE = 600.0  # seconds to wait for a storage that cannot be reached
RETRIES = 3  # how often a trial is resumed after its worker stopped responding

_AWAY = (
    optuna.exceptions.StorageInternalError,
    sqlalchemy.exc.DBAPIError,
    sqlalchemy.exc.TimeoutError,
    ConnectionError,
)


def open_storage(url, grace_seconds):
    """Open or create the storage of an URL.

    Args:
        url: `sqlite:///...`, `postgresql://...`, another URL of SQLAlchemy,
            or `grpc://host:port` of Optuna's gRPC proxy, which has no
            heartbeat.
        grace_seconds: time without a heartbeat after which a trial is stale.

    Returns:
        An Optuna storage.

    Raises:
        StorageError: if it cannot be reached.
        MissingExtraError: if its driver is not installed.
    """
    for attempts_left in reversed(range(6)):
        try:
            with experimental():
                return _open(url, grace_seconds)
        except ImportError as error:
            extra = "grpc" if url.startswith("grpc:") else "postgresql"
            raise MissingExtraError(
                f"`storage` {_shown(url)} needs a driver. For PostgreSQL and "
                "for gRPC, install an extra: "
                f"pip install 'keras-dropblock[search,{extra}]'. ({error})"
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise StorageError(
                "`storage` must be an URL such as sqlite:///search.db or "
                f"postgresql://user@host/name. ({error})"
            ) from error
        except Exception as error:
            if not is_unreachable(error):
                raise
            # Another worker may create the same tables at this moment.
            if attempts_left and re.search(
                "exist|duplicate|unique", f"{error}".lower()
            ):
                time.sleep(0.5)
                continue
            raise StorageError(
                f"`storage` {_shown(url)} cannot be reached: {_reason(error)}"
            ) from error


def _open(url, grace_seconds):
    proxy = re.fullmatch(r"grpc://([^:/]+):(\d+)", url)
    if proxy:
        storage = optuna.storages.GrpcStorageProxy(
            host=proxy[1], port=int(proxy[2])
        )
        storage.wait_server_ready(timeout=10)
        return storage
    return optuna.storages.RDBStorage(
        re.sub("^postgres(ql)?:", "postgresql+psycopg:", url),
        engine_kwargs=_engine_options(url),
        heartbeat_interval=max(1, int(grace_seconds / 8)),
        grace_period=int(grace_seconds),
        heartbeat_stale_trial_callback=requeue(RETRIES),
    )


def is_unreachable(error):
    """Whether an error says that the storage cannot be reached."""
    of_proxy = type(error).__module__.partition(".")[0] == "grpc"
    return isinstance(error, _AWAY) or of_proxy


def close(storage):
    """Close the connections of a storage."""
    storage.remove_session()
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.engine.dispose()
    if isinstance(storage, optuna.storages.GrpcStorageProxy):
        storage.close()


def requeue(retries):
    """A function of (study, failed trial) that puts the trial back.

    Args:
        retries: how often a trial may be put back. None: always.
    """
    with experimental():
        return optuna.storages.RetryHeartbeatStaleTrialCallback(
            max_retry=retries, inherit_intermediate_values=True
        )


def number_of(trial):
    """The number of a trial. A trial that was put back keeps its number."""
    with experimental():
        callback = optuna.storages.RetryHeartbeatStaleTrialCallback
        first = callback.retried_trial_number(trial)
    return trial.number if first is None else first


def patiently(function, *arguments, wait=time.sleep):
    """Call a function again while the storage cannot be reached.

    Raises:
        StorageError: after `PATIENCE` seconds.
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            return function(*arguments)
        except Exception as error:
            if not is_unreachable(error):
                raise
            if time.monotonic() - began > PATIENCE:
                raise StorageError(
                    f"The storage could not be reached for {PATIENCE:g} s: "
                    f"{_reason(error)}. Run the same command again to resume."
                ) from error
            if pause == 0.5:
                print(
                    "The storage cannot be reached. Trying again for "
                    f"{PATIENCE / 60:g} minutes.",
                    flush=True,
                )
            wait(pause)
            pause = min(2 * pause, 10.0)


@contextlib.contextmanager
def experimental():
    """A context without Optuna's warnings about experimental functions."""
    with warnings.catch_warnings():
        kind = optuna.exceptions.ExperimentalWarning
        warnings.simplefilter("ignore", kind)
        yield


def _engine_options(url):
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 60}}
    return {"pool_pre_ping": True}


def _shown(url):
    """The URL without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url


def _reason(error):
    """The first line of the error of the database."""
    cause = error.__cause__ or error
    text = cause.details() if hasattr(cause, "details") else f"{cause}"  # gRPC
    return (text.splitlines() or [type(cause).__name__])[0]
