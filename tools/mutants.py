"""Break the code in small ways, one at a time, and check that a test fails.

    make mutants
    python tools/mutants.py --only=nesterov     # only names that match

Each entry of tests/mutants/*.toml is one break:

    [[mutant]]
    name = "nesterov_off"                       # unique
    file = "keras_dropblock/optimizers.py"
    find = "if self.nesterov:"                  # occurs exactly once
    replace = "if False:"
    tests = "tests/test_optimizers.py -k torch" # arguments of pytest
    backend = "tensorflow"                      # the default

A break is caught if its tests pass on the original code and fail on the broken
code. It counts as not caught if its tests cannot run or hang, or if `find`
does not occur exactly once in the file. The tests run in copies of the
checkout, so the checkout is not changed. The result is written to
tests/mutants/RESULT.md. With --only, the rows of all other breaks are kept,
unless their file or tests are now others; each row has the commit that was
tested.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
MUTANTS = pathlib.Path("tests", "mutants")
SECONDS = 600  # time limit for the tests of one mutant
PASSED, FAILED = 0, 1  # exit codes of pytest
NOT_RUN = "not run"
HEADS = ("break", "file", "tests", "result", "s", "commit, date")
_local = threading.local()


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One break of the code, and the tests that should notice it."""

    name: str
    file: str
    find: str
    replace: str
    tests: str
    backend: str = "tensorflow"

    @property
    def command(self):
        return self.backend, self.tests

    @property
    def cells(self):
        """The first cells of this break's row on the result page."""
        backend = "" if self.backend == "tensorflow" else self.backend
        tests = f"`{self.tests}` {backend}".replace("|", "\\|").strip()
        return [self.name, self.file, tests]

    def problem(self, root):
        """Why this break cannot be applied to a checkout, or None."""
        path = root / self.file
        count = path.read_text("utf-8").count(self.find) if path.exists() else 0
        if count != 1:
            return f"its text occurs {count} times in {self.file}"
        if self.find == self.replace:
            return "it changes nothing"
        return None


def read(folder):
    """Read all mutants from a folder of TOML files.

    Raises:
        SystemExit: if a file cannot be read, an entry has missing or unknown
            keys, or a name occurs twice.
    """
    mutants = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text("utf-8"))["mutant"]
            for entry in entries:
                mutant = Mutant(**entry)
                if mutant.name in mutants:
                    raise ValueError(f"{mutant.name} occurs twice")
                mutants[mutant.name] = mutant
        except (KeyError, TypeError, ValueError) as error:
            raise SystemExit(f"{path}: {error}") from error
    return list(mutants.values())


def copy_checkout(root, target):
    """Copy the files that git tracks or would add, and link `shared`."""
    names = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    # Tests on real data look for the folder `shared` next to the checkout.
    shared = root.parent / "shared"
    link = target.parent / "shared"
    if shared.is_dir() and not link.exists():
        link.symlink_to(shared)


def run_tests(root, backend, tests):
    """Exit code of pytest in a copy of the checkout; None after a timeout."""
    environment = {
        "TFDS_DATA_DIR": str(ROOT / "build" / "tfds"),
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p"]
    command += ["no:cacheprovider", *shlex.split(tests)]
    try:
        return subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def judge(root, mutant):
    """Apply a mutant to a copy, run its tests, and undo it.

    Returns:
        "caught", or why it was not.
    """
    problem = mutant.problem(root)
    if problem:
        return problem
    path = root / mutant.file
    content = path.read_text("utf-8")
    path.write_text(content.replace(mutant.find, mutant.replace), "utf-8")
    try:
        code = run_tests(root, *mutant.command)
    finally:
        path.write_text(content, "utf-8")
    if code == FAILED:
        return "caught"
    if code is None:
        return f"its tests took more than {SECONDS} s"
    if code == PASSED:
        return "not caught"
    return f"its tests could not run (pytest ended with {code})"


def check_all(mutants, jobs):
    """Judge every mutant.

    Returns:
        Dict from name to (verdict, seconds).
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:

        def in_copy(function, *arguments):
            """Call a function with this thread's copy of the checkout."""
            if not hasattr(_local, "root"):
                parent = pathlib.Path(tempfile.mkdtemp(dir=folder))
                _local.root = parent / "checkout"
                _local.root.mkdir()
                copy_checkout(ROOT, _local.root)
            return function(_local.root, *arguments)

        def baseline(command):
            code = in_copy(run_tests, *command)
            print(f"original code, {' '.join(command)}: {code}", flush=True)
            return code

        def verdict(mutant):
            started = time.monotonic()
            code = unbroken[mutant.command]
            if code != PASSED:
                text = f"its tests do not pass on the original code ({code})"
            else:
                text = in_copy(judge, mutant)
            print(f"{mutant.name}: {text}", flush=True)
            return text, time.monotonic() - started

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            commands = list({mutant.command for mutant in mutants})
            unbroken = dict(
                zip(commands, pool.map(baseline, commands), strict=True)
            )
            verdicts = pool.map(verdict, mutants)
            return dict(zip((m.name for m in mutants), verdicts, strict=True))


def known_results(path):
    """Rows of an earlier result page, by the name of the break."""
    if not path.exists():
        return {}
    lines = path.read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if "| " in line]
    return {row[0]: row for row in rows if len(row) == len(HEADS)}


def commit():
    """The commit of the checkout, with "-dirty" if it has changes."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()


def report(mutants, verdicts, known, tested):
    """The result as a Markdown page.

    Args:
        mutants: all mutants.
        verdicts: result of `check_all` for some of them.
        known: rows of an earlier page, for the others.
        tested: the commit of `verdicts`.
    """
    rows = []
    for mutant in mutants:
        row = known.get(mutant.name)
        if mutant.name in verdicts:
            text, seconds = verdicts[mutant.name]
            row = [*mutant.cells, text, f"{seconds:.0f}"]
            row += [f"{tested}, {datetime.date.today()}"]
        elif row is None or row[:3] != mutant.cells:
            row = [*mutant.cells, NOT_RUN, "-", "-"]
        rows.append(row)
    results = [row[HEADS.index("result")] for row in rows]
    caught, not_run = results.count("caught"), results.count(NOT_RUN)
    lines = [
        "# Mutation check",
        "",
        f"Of {len(rows)} breaks, {caught} were caught, "
        f"{len(rows) - caught - not_run} were not, and {not_run} were not run: "
        "`make mutants`.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="regular expression for names")
    parser.add_argument(
        "--jobs", type=int, default=2, help="number of parallel test runs"
    )
    flags = parser.parse_args()
    mutants = read(ROOT / MUTANTS)
    chosen = [m for m in mutants if re.search(flags.only or "", m.name)]
    if not chosen:
        raise SystemExit(f"No mutant has a name that matches {flags.only!r}.")
    from keras_dropblock import files

    tested = commit()
    verdicts = check_all(chosen, flags.jobs)
    path = ROOT / MUTANTS / "RESULT.md"
    page = report(mutants, verdicts, known_results(path), tested)
    files.write_text(path, page)
    missed = [n for n, (text, _) in verdicts.items() if text != "caught"]
    sys.exit(f"Not caught: {', '.join(missed)}" if missed else None)


if __name__ == "__main__":
    main()
