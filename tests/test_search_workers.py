"""Workers of a study: several, killed ones, and an unreachable storage."""

import dataclasses
import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

pytest.importorskip("optuna")
import optuna
import sqlalchemy
from optuna.trial import TrialState

import small_runs
from keras_dropblock.errors import MissingExtraError, StorageError
from keras_dropblock.search import samplers, session, space, storage, worker
from keras_dropblock.search.planned import PlannedRun
from keras_dropblock.search.pruning import ReportEpochs
from keras_dropblock.search.settings import Settings
from keras_dropblock.search.worker import Worker
from keras_dropblock.training.recipe import Recipe
from study_worker import STEPS, notes, study

HERE = pathlib.Path(__file__).parent


def sqlite(folder):
    return f"sqlite:///{folder / 'study.db'}"


def start(url, trials, folder, grace):
    script = HERE / "study_worker.py"
    return subprocess.Popen(
        [sys.executable, script, url, f"{trials}", folder, f"{grace}"],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def check_all_ran_once(url, trials, folder):
    """Each trial is complete, and each of its steps was done once."""
    one = study(url, trials, folder)
    found = one.latest()
    storage.close(one.storage)
    assert len(found) == trials
    assert {t.state for t in found.values()} == {TrialState.COMPLETE}
    steps = sorted(line[1:] for line in notes(folder) if line[0] == "step")
    expected = sorted((f"{n}", f"{s}") for n in found for s in range(STEPS))
    assert steps == expected


def kill_one_of_two(url, trials, folder, grace=3, meanwhile=lambda: None):
    """Kill a worker in the middle of trial 3, while another one works."""
    (folder / "hold").touch()
    workers = [start(url, trials, folder, grace) for _ in range(2)]
    try:
        wait_for(lambda: any(x[0] == "holding" for x in notes(folder)))
        (killed,) = (int(x[1]) for x in notes(folder) if x[0] == "holding")
        meanwhile()
        os.kill(killed, signal.SIGKILL)
        (folder / "hold").unlink()
        codes = {w.pid: w.wait(timeout=120) for w in workers}
    finally:
        for one in workers:
            one.kill()
            one.wait()
    assert codes.pop(killed) == -signal.SIGKILL
    assert [*codes.values()] == [0]
    check_all_ran_once(url, trials, folder)
    starts = [line for line in notes(folder) if line[0] == "start"]
    pids = [int(pid) for _, number, pid in starts if number == "3"]
    assert pids == [killed, *codes]
    assert len(starts) == trials + 1
    # Both have worked.
    assert {int(pid) for _, _, pid in starts} == {killed, *codes}


def test_two_workers_run_each_trial_once_though_one_is_killed(tmp_path):
    kill_one_of_two(sqlite(tmp_path), 9, tmp_path)


@pytest.fixture
def postgresql():
    """(URL, stop, start) of a server in a temporary folder."""
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    path = os.pathsep.join([os.environ["PATH"], *binaries[-1:]])
    control = shutil.which("pg_ctl", path=path)
    if control is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg"))
    user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")

    def pg_ctl(*arguments):
        data = [*user, control, "-w", "-s", "-D", folder / "data"]
        subprocess.run(
            [*data, *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )

    # The server listens on a socket in its folder, and on no port.
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"

    def start():
        pg_ctl("start", "-l", folder / "log", "-o", options)

    def stop():
        pg_ctl("stop", "-m", "immediate")

    try:
        pg_ctl("init", "-o", "-A trust -U postgres -N")
        start()
        yield f"postgresql://postgres@/postgres?host={folder}", stop, start
        stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.postgresql
def test_workers_on_postgresql_survive_a_kill_and_a_restart_of_the_server(
    postgresql, tmp_path
):
    pytest.importorskip("psycopg")
    url, stop, start = postgresql

    def restart():
        before = len(notes(tmp_path))
        stop()
        time.sleep(2)
        start()
        wait_for(lambda: len(notes(tmp_path)) > before)

    # The server stops for less than the 10 s after which a trial is stale.
    kill_one_of_two(url, 30, tmp_path, grace=10, meanwhile=restart)


def in_one_process(tmp_path, trials, objective, **changes):
    one = study(sqlite(tmp_path), trials, tmp_path)
    one = dataclasses.replace(one, **changes)
    Worker(one, objective, (ValueError,)).work()
    return one.latest()


def test_tpe_gives_the_same_trials_again_even_if_interrupted(tmp_path):
    def points(name, *counts):
        (tmp_path / name).mkdir()
        for count in counts:
            found = in_one_process(
                tmp_path / name,
                count,
                lambda trial: -abs(trial.params["x"] - 0.3),
                sampler=lambda place: optuna.samplers.TPESampler(
                    seed=place, n_startup_trials=2
                ),
            )
        return [trial.params["x"] for trial in found.values()]

    whole = points("whole", 6)
    assert len({*whole}) == 6
    assert points("parts", 3, 6) == whole


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband"])
@pytest.mark.parametrize("kind", ["grid", "random", "tpe"])
def test_no_point_comes_twice_with_any_pruner(kind, pruner, tmp_path):
    step = ", step=0.05" if kind == "grid" else ""
    texts = {
        "keep_prob": f"float(0.5, 0.95{step})",
        "block_size": "choice(3, 5, 7)",
    }
    settings = Settings(sampler=kind, pruner=pruner, trials=30)
    recipe = Recipe(dataset="digits", validation_split=0.2)
    dimensions = space.checked(recipe, texts)

    def objective(trial):
        score = -trial.params["keep_prob"]
        for epoch in range(1, 28):
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    def points(*counts):
        memory = optuna.storages.InMemoryStorage()
        for count in counts:
            found = in_one_process(
                tmp_path,
                count,
                objective,
                storage=memory,
                sampler=samplers.sampler_of(settings, dimensions, 0),
                distributions={
                    key: d.distribution() for key, d in dimensions.items()
                },
                pruner=samplers.pruner_of(settings, 27),
            )
        states = {trial.state for trial in found.values()}
        # Good trials are not pruned; without a pruner, none is.
        assert TrialState.COMPLETE in states
        assert (TrialState.PRUNED in states) == (pruner != "none")
        return [tuple(trial.params.values()) for trial in found.values()]

    whole = points(30)
    assert len({*whole}) == 30
    assert points(11, 30) == whole


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    def objective(trial):
        if trial.number == 1:
            raise ValueError("no\nreason")
        return 0.5

    found = in_one_process(tmp_path, 3, objective)
    states = [trial.state.name for trial in found.values()]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert found[1].user_attrs["error"] == "ValueError: no"


def test_a_worker_that_died_before_its_first_heartbeat_loses_nothing(tmp_path):
    one = study(sqlite(tmp_path), 2, tmp_path)
    one.storage.create_new_trial(
        one.storage.get_study_id_from_name(one.load().study_name)
    )
    found = in_one_process(tmp_path, 2, lambda trial: 0.5, grace_seconds=0.3)
    assert [t.state.name for t in found.values()] == ["COMPLETE"] * 2
    assert [*found] == [0, 1]


def test_a_trial_whose_workers_all_die_is_failed_at_last(tmp_path):
    one = study(sqlite(tmp_path), 1, tmp_path)
    loaded = one.load()
    for attempt in range(1 + storage.RETRIES):
        assert one.latest().keys() <= {0}
        trial = worker._ask(loaded, one.distributions)
        assert trial.number == attempt
        worker.put_back(loaded, trial.number, storage.RETRIES)
    assert [t.state for t in one.latest().values()] == [TrialState.FAIL]
    # Nothing is left to do, and the study ends.
    found = in_one_process(tmp_path, 1, lambda trial: 0.5)
    assert [t.state for t in found.values()] == [TrialState.FAIL]


def test_a_trial_too_many_is_not_run(tmp_path, monkeypatch):
    ask, ran = worker._ask, []

    def race(loaded, distributions):
        other = ask(loaded, distributions)
        loaded.tell(other, 0.25)
        return ask(loaded, distributions)

    monkeypatch.setattr(worker, "_ask", race)
    found = in_one_process(
        tmp_path, 3, lambda trial: ran.append(trial.number) or 0.5, lock=None
    )
    # Trials 0 and 2 are of another worker, 3 is too many.
    assert ran == [1] and [*found] == [0, 1, 2]


def test_a_trial_that_was_taken_over_is_left_to_the_other_worker(tmp_path):
    def objective(trial):
        if trial.number == 0:
            worker.put_back(trial.study, 0, None)
            trial.report(0.1, 1)
            raise AssertionError("it went on")
        return 0.75

    found = in_one_process(tmp_path, 1, objective)
    assert {n: t.value for n, t in found.items()} == {0: 0.75}


def test_a_worker_that_stops_leaves_its_trial_to_the_next(tmp_path):
    def interrupted(trial):
        trial.report(0.25, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_one_process(tmp_path, 2, interrupted)
    params = []

    def objective(trial):
        params.append(trial.params["x"])
        return 0.5

    found = in_one_process(tmp_path, 2, objective)
    assert len({*params}) == 2
    assert [t.params["x"] for t in found.values()] == params
    assert found[0].intermediate_values == {1: 0.25}


def test_workers_wait_for_a_storage_that_is_unreachable(monkeypatch, capsys):
    away, pauses = [3], []

    def read(x):
        if away[0]:
            away[0] -= 1
            raise optuna.exceptions.StorageInternalError("no connection")
        return x

    assert storage.patiently(read, 5, wait=pauses.append) == 5
    assert pauses == [0.5, 1.0, 2.0]
    assert capsys.readouterr().out.count("cannot be reached") == 1
    # Not forever, and not for other errors.
    away[0] = -1
    monkeypatch.setattr(storage, "PATIENCE", 0.01)
    with pytest.raises(StorageError, match="reached for 0.01 s: no connection"):
        storage.patiently(read, 5, wait=lambda pause: time.sleep(0.02))
    with pytest.raises(ZeroDivisionError):
        storage.patiently(lambda: 1 / 0)


@pytest.fixture
def proxy(tmp_path):
    """Optuna's gRPC proxy of a file of SQLite: its address, and its process."""
    pytest.importorskip("grpc", reason="the extra grpc is not installed")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, optuna.storages as s;"
        "s.run_grpc_proxy_server(s.get_storage(sys.argv[1]),"
        "host='localhost', port=int(sys.argv[2]))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, sqlite(tmp_path), f"{port}"]
    )
    try:
        yield f"grpc://localhost:{port}", server
    finally:
        server.kill()
        server.wait()


def test_a_study_runs_over_the_grpc_proxy(proxy, tmp_path, monkeypatch):
    url, server = proxy
    numbers = []

    def objective(trial):
        numbers.append(trial.number)
        return trial.params["x"]

    one, other = (study(url, trials, tmp_path) for trials in (3, 5))
    for each in (one, other):
        Worker(each, objective).work()
    # The second worker sees the trials of the first.
    assert numbers == [0, 1, 2, 3, 4]
    direct = study(sqlite(tmp_path), 5, tmp_path)
    assert [t.values for t in direct.latest().values()] == [
        t.values for t in other.latest().values()
    ]
    storage.close(one.storage)
    storage.close(direct.storage)
    # The proxy goes away. Workers wait for it.
    server.kill()
    server.wait()
    monkeypatch.setattr(storage, "PATIENCE", 0.01)
    with pytest.raises(
        StorageError, match="reached for 0.01 s: failed to conn"
    ):
        storage.patiently(other.latest, wait=lambda pause: time.sleep(0.02))
    storage.close(other.storage)


def test_a_missing_package_of_a_storage_is_named(monkeypatch):
    for module, url in (
        ("grpc", "grpc://localhost:1"),
        ("psycopg", "postgresql://x"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        extra = url.partition(":")[0]
        with pytest.raises(MissingExtraError, match=rf"\[search,{extra}\]"):
            storage.open_storage(url, 10)


@pytest.mark.parametrize(
    "url, message",
    [
        ("sqlite:////nowhere/study.db", "cannot be reached: .*unable to open"),
        ("search.db", "must be an URL such as sqlite:///search.db"),
        (
            "postgresql://me:secret@/db?host=/nowhere",
            r"me:\*\*\*@/db\?host=%2Fnowhere cannot be reached",
        ),
    ],
)
def test_a_storage_that_was_never_there_is_an_error(url, message):
    with pytest.raises(StorageError, match=message) as error:
        storage.open_storage(url, 10)
    assert "secret" not in str(error.value)


class FakeTrial:
    """Records reports. If `away` is true, the storage is unreachable."""

    number = 0

    def __init__(self, known=()):
        self.intermediate_values = dict(known)
        self.study, self.reports, self.away = self, [], False
        self.bad_from = 99

    def get_trials(self, deepcopy):
        return [self]

    def report(self, value, step):
        if self.away:
            raise optuna.exceptions.StorageInternalError("away")
        self.reports.append((step, value))

    def should_prune(self):
        return any(step >= self.bad_from for step, _ in self.reports)


@pytest.mark.parametrize(
    "column, sign", [("validation_accuracy", 1), ("validation_loss", -1)]
)
def test_every_epoch_is_reported_once_until_the_pruner_stops_the_run(
    tmp_path, column, sign
):
    trial = FakeTrial(known={1: 0.5 * sign})  # before the worker was killed
    report = ReportEpochs(trial, PlannedRun(Recipe(), tmp_path))
    trial.bad_from = 5
    lines = [f"epoch,{column}"]
    for epoch in range(5):
        lines.append(f"{epoch},{(epoch + 1) / 2}")
        (tmp_path / "history.csv").write_text("\n".join(lines))
        trial.away = epoch == 2
        if epoch == 4:
            with pytest.raises(optuna.TrialPruned):
                report.on_epoch_end(epoch)
        else:
            report.on_epoch_end(epoch)
    assert trial.reports == [(s, sign * s / 2) for s in (2, 3, 4, 5)]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_epochs_without_a_score_neither_report_nor_prune(pruner, tmp_path):
    """Detectors measure AP in some epochs. Optuna prunes on NaN."""
    settings, lasted = Settings(trials=9, pruner=pruner), []
    study = optuna.create_study(
        direction="maximize",
        study_name="bands",
        pruner=samplers.pruner_of(settings, 9),
    )
    for number in range(9):
        trial = study.ask()
        planned = PlannedRun(Recipe(epochs=9), tmp_path)
        report = ReportEpochs(trial, planned)
        lines = ["epoch,validation_accuracy"]
        try:
            for epoch in range(9):
                # Each trial is worse than the last one.
                score = 0.9 - number / 10 if epoch % 3 == 2 else float("nan")
                lines.append(f"{epoch},{score}")
                planned.workdir.joinpath("history.csv").write_text(
                    "\n".join(lines)
                )
                report.on_epoch_end(epoch)
        except optuna.TrialPruned:
            pass
        lasted.append(len(lines) - 1)
        study.tell(trial, 0.9 - number / 10)
    reported = [[*t.intermediate_values] for t in study.trials]
    assert reported == [[*range(3, n + 1, 3)] for n in lasted]
    assert lasted[0] == 9 and min(lasted) == 3


@pytest.fixture
def noise(tmp_path):
    """Options of a short run on noise, as `key=value`."""
    small_runs.write_noise(tmp_path / "noise.npz")
    return [
        "model=WRN-10-1",
        f"dataset={tmp_path / 'noise.npz'}",
        "batch_size=20",
        "validation_split=0.25",
        "keep_prob=0.9",
    ]


@pytest.mark.slow
def test_a_killed_run_is_resumed_from_its_checkpoint(noise, tmp_path):
    where = tmp_path / "search"
    options = [*noise, "epochs=6"]
    process = subprocess.Popen(
        [
            sys.executable,
            HERE.parent / "training" / "search.py",
            f"--workdir={where}",
            "--space=block_size=choice(3)",
            "--trials=1",
            "--grace_seconds=2",
            *(f"--set={option}" for option in options),
        ],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    run = where / "trial=0000,seed=0"
    history = run / "history.csv"
    try:
        wait_for(
            lambda: history.exists() and history.read_text().count("\n") > 2
        )
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (run / "metrics.json").exists()
    found = session.search(
        Recipe().override(options),
        {"block_size": "choice(3)"},
        Settings(trials=1, grace_seconds=2.0),
        workdir=where,
        verbose=0,
    )
    (row,) = found.table.rows
    assert (row["trial"], row["state"], row["epochs"]) == (0, "complete", 6)
    sessions = json.loads((run / "run.json").read_text())["sessions"]
    # The checkpoint of the second epoch may not have been written.
    assert [s["after_epoch"] > 0 for s in sessions] == [False, True]
    # Epochs before and after the kill are in the storage.
    name = optuna.study.get_all_study_names(sqlite(where))
    (*_, trial) = optuna.load_study(
        study_name=name[0], storage=sqlite(where)
    ).trials
    assert [*trial.intermediate_values] == [*range(1, 7)]


@pytest.mark.slow
def test_a_pruned_run_stops_after_its_epoch(noise, tmp_path, monkeypatch):
    # Every accuracy is below 2.
    pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=2)
    monkeypatch.setattr(samplers, "pruner_of", lambda *arguments: pruner)
    found = session.search(
        Recipe().override([*noise, "epochs=3"]),
        {"block_size": [3]},
        Settings(sampler="grid"),
        workdir=tmp_path / "search",
        verbose=0,
    )
    (row,) = found.table.rows
    assert (row["state"], row["n"], row["epochs"]) == ("pruned", 0, 2)
    run = tmp_path / "search" / "block_size=3,seed=0"
    assert len((run / "history.csv").read_text().splitlines()) == 3


def test_two_workers_may_create_the_tables_at_once(tmp_path, monkeypatch):
    real, races = optuna.storages.RDBStorage, [2]

    def racing(*arguments, **options):
        if races[0]:
            races[0] -= 1
            raise sqlalchemy.exc.IntegrityError(
                "CREATE TABLE", {}, Exception("duplicate key value")
            )
        return real(*arguments, **options)

    monkeypatch.setattr(optuna.storages, "RDBStorage", racing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert isinstance(storage.open_storage(sqlite(tmp_path), 10), real)
    races[0] = -1  # every time: not a race
    with pytest.raises(StorageError, match="duplicate key value"):
        storage.open_storage(sqlite(tmp_path), 10)


def test_a_run_is_not_pruned_after_its_last_epoch(tmp_path):
    trial = FakeTrial()
    trial.bad_from = 1
    report = ReportEpochs(trial, PlannedRun(Recipe(epochs=2), tmp_path))
    history = "epoch,validation_accuracy\n0,0.5\n"
    (tmp_path / "history.csv").write_text(history)
    with pytest.raises(optuna.TrialPruned):
        report.on_epoch_end(0)
    (tmp_path / "history.csv").write_text(history + "1,0.5\n")
    report.on_epoch_end(1)
    assert [step for step, _ in trial.reports] == [1, 2]


def test_hyperband_lets_every_trial_run_for_a_27th_of_its_epochs():
    settings = Settings(trials=9, pruner="hyperband")
    study = optuna.create_study(
        study_name="bands", pruner=samplers.pruner_of(settings, 270)
    )
    pruned_at = []
    for number in range(9):
        trial = study.ask()
        for epoch in range(1, 271):
            trial.report(number, epoch)  # each trial is worse than the last
            if trial.should_prune():
                pruned_at.append(epoch)
                break
        study.tell(trial, number)
    assert min(pruned_at) == 10
    assert {*pruned_at} <= {10, 30, 90, 270}
