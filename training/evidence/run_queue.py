"""Train several runs at a time, each in a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from claims import FOLDER

SCRIPT = FOLDER / "evidence.py"


def start(job, workdirs, processes):
    """Start a process that trains one run, with its share of the cores.

    The output is added to the file `<run>.log` beside the work directory.
    """
    threads = str(max(1, os.cpu_count() // processes))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = dict.fromkeys(names, threads) if processes > 1 else {}
    command = [sys.executable, str(SCRIPT), f"--run={job.name}"]
    command += [f"--workdirs={workdirs}"]
    log = workdirs / f"{job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C then reaches only `train_all`, which stops the runs. To
            # a run, a second signal would mean to stop without a checkpoint.
            start_new_session=True,
        )


def train_all(evidence, claims, workdirs, processes):
    """Train all runs that are not finished, several at a time.

    SIGTERM, SIGHUP (a closed terminal) and Ctrl-C stop the runs with a
    checkpoint. If a run fails, the others are trained all the same.

    Raises:
        SystemExit: if runs failed or were stopped.
    """
    running, failed = {}, []
    try:
        with _signals_interrupt():
            while True:
                unfinished = [
                    job
                    for job in evidence.jobs(claims)
                    if job.state(evidence.results, workdirs) != "finished"
                ]
                waiting = [
                    job
                    for job in unfinished
                    if job.name not in running and job.name not in failed
                ]
                # The values that runs choose from come first. The runs with
                # the chosen values are known later.
                for job in waiting[: processes - len(running)]:
                    print(f"{job.name}: {len(unfinished)} to go", flush=True)
                    running[job.name] = start(job, workdirs, processes)
                if not running:
                    break
                time.sleep(0.5)
                failed += _remove_ended(running, workdirs)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. Run this again to resume.") from None
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    if failed:
        raise SystemExit(
            f"Not finished: {', '.join(failed)}. Run this again to resume."
        )


@contextlib.contextmanager
def _signals_interrupt():
    """A context in which SIGTERM and SIGHUP are KeyboardInterrupt."""

    def stop(*_):
        raise KeyboardInterrupt

    numbers = signal.SIGTERM, signal.SIGHUP
    previous = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _remove_ended(running, workdirs):
    """Remove the runs whose process has ended. Returns those that failed."""
    failed = []
    for name, process in list(running.items()):
        if process.poll() is None:
            continue
        del running[name]
        if process.returncode:
            failed.append(name)
            print(
                f"{name} stopped with exit code {process.returncode}: "
                f"see {workdirs / name}.log",
                flush=True,
            )
    return failed
