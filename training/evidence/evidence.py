"""Train the runs that check the papers' claims, and make their tables.

    make evidence           # show the state of each run, train what is missing
    make evidence-tables    # rebuild docs/evidence.md
    evidence.py --measure   # after a change of `measures.py`: measure again

`runs.toml` defines runs and claims. Runs can be stopped and resumed. With
`--jobs=2`, two are trained at a time, each with half of the cores: small
networks then train faster together than one after the other. The
small files of a finished run are copied to `results`. Tables and pictures are
made only from these files.
"""

import argparse
import importlib.util
import os
import pathlib
import shutil

import numpy as np

import claim_pictures
import claim_tables
import measures
import run_queue
from claims import FOLDER, Evidence

ROOT = FOLDER.parents[1]
# metrics.json comes last: a run with this file is finished.
KEPT = (
    "history.csv",
    "recipe.toml",
    "run.json",
    "card.json",
    "measures.json",
    "metrics.json",
)
DATA = "build/evidence/cifar10_5000.npz"


def write_tables(evidence):
    from keras_dropblock import files

    claim_pictures.draw_all(evidence, ROOT / "docs" / "evidence")
    files.write_text(ROOT / "docs" / "evidence.md", claim_tables.page(evidence))
    files.write_between(
        ROOT / "README.md", "evidence", claim_tables.summary(evidence)
    )
    print("Wrote docs/evidence.md, and the answers in README.md")


def make_data():
    """Write the .npz file of 5,000 training images, if it does not exist."""
    from keras_dropblock import data, files

    path = ROOT / DATA
    if path.exists():
        return
    arrays = data.load("cifar10").arrays
    chosen = {"test": slice(None)}
    for split in ("train", "validation"):
        text = (FOLDER / f"cifar10_{split}.txt").read_text("utf-8")
        chosen[split] = [int(number) for number in text.split()]
    content = {}
    for split, indices in chosen.items():
        images, labels = arrays["test" if split == "test" else "train"]
        content[f"x_{split}"] = images[indices]
        content[f"y_{split}"] = labels[indices]
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **content)


def require_commit():
    """The commit of the code.

    Raises:
        SystemExit: if there is none, or the code has changes.
    """
    from keras_dropblock.runs import versions

    commit = versions.commit(*FOLDER.glob("*.*"))
    if commit is None or commit.endswith("with changes"):
        raise SystemExit(
            "The code must be a commit of a git checkout without changes: "
            "the results name the commit that trained them. Received: "
            f"{commit}."
        )
    return commit


def train(job, workdirs, results, commit):
    """Train or resume one run, measure it, and keep its small files.

    Args:
        job: `Job`.
        workdirs, results: folders of the runs in progress and the finished
            ones.
        commit: that of the code, for `measures.json`.
    """
    import keras_dropblock as kdb
    from keras_dropblock.training import plan

    workdir = workdirs / job.name
    recipe = kdb.Recipe().replaced(job.keys, job.name)
    # Without a validation split, epochs would score the test split.
    scored = plan.has_validation(recipe)
    kdb.fit(recipe, workdir, verbose=2, score_epochs=scored)
    write_measures(workdir, commit)
    keep(workdir, results / job.name, KEPT)


def write_measures(workdir, commit):
    """Measure a finished run: write `measures.json`, with the commit."""
    from keras_dropblock import files

    content = {**measures.measure(workdir), "commit": commit}
    files.write_json(workdir / "measures.json", files.for_json(content))


def keep(workdir, target, names):
    """Copy small files of a run from its work directory, in this order."""
    from keras_dropblock import files

    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        with files.replacing(target / name) as temporary:
            shutil.copyfile(workdir / name, temporary)


def trainable(evidence, claims):
    """The names of the claims whose packages and data are there.

    Lines tell which claims are left out.

    Args:
        evidence: `Evidence`.
        claims: names of claims. None: all.
    """
    chosen = []
    for claim in evidence.claims if claims is None else claims:
        problem = _problem(evidence, claim)
        if problem:
            print(f"Left out: {claim}. {problem}")
        else:
            chosen.append(claim)
    return chosen


def _problem(evidence, claim):
    """What a claim's runs lack, or `""`."""
    from keras_dropblock.data import sources

    if evidence.task(claim).name() == "detection":
        if importlib.util.find_spec("keras_hub") is None:
            return (
                "It needs KerasHub. Run: pip install 'keras-dropblock[vision]'"
            )
    _, path = sources.divided(evidence.keys(claim).get("dataset", ""))
    if path not in ("", DATA) and not (ROOT / path).exists():
        return f"Its images are missing: {path}"
    return ""


def measure_again(job, workdirs, results, commit):
    """Measure a finished run with the code of this commit.

    Returns:
        Whether its work directory with the weights is there.
    """
    workdir, target = workdirs / job.name, results / job.name
    if not all((x / "metrics.json").exists() for x in (workdir, target)):
        return False
    write_measures(workdir, commit)
    keep(workdir, target, ["measures.json"])
    return True


def arguments():
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train")
    parser.add_argument("--tables", action="store_true", help="make tables")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the finished runs again whose work directory is there",
    )
    parser.add_argument("--claims", help="names of claims, with commas")
    parser.add_argument("--run", help="train this run alone: RUN/seed_N")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="number of runs that are trained at the same time",
    )
    parser.add_argument(
        "--workdirs",
        type=pathlib.Path,
        default=ROOT / "runs" / "evidence",
        help="folder of the runs in progress",
    )
    return parser


def main():
    from keras_dropblock.errors import KerasDropBlockError

    parser = arguments()
    flags = parser.parse_args()
    evidence = Evidence.read()
    claims = flags.claims.split(",") if flags.claims else None
    unknown = set(claims or ()) - set(evidence.claims)
    if unknown:
        parser.error(
            f"--claims must be some of: {', '.join(evidence.claims)}. "
            f"Received: {', '.join(sorted(unknown))}."
        )
    if flags.jobs < 1:
        parser.error(f"--jobs must be at least 1. Received: {flags.jobs}.")
    jobs = {job.name: job for job in evidence.jobs(claims)}
    if flags.run and flags.run not in jobs:
        parser.error(
            f"--run must be one of: {', '.join(jobs)}. Received: {flags.run}."
        )
    workdirs = flags.workdirs.absolute()
    os.chdir(ROOT)  # recipes name their data by a path in the checkout
    try:
        run(flags, evidence, claims, jobs, workdirs)
    except KerasDropBlockError as error:
        raise SystemExit(f"evidence.py: {error}") from error


def run(flags, evidence, claims, jobs, workdirs):
    """Do what the flags of `main` ask for.

    Args:
        flags: parsed flags.
        evidence: `Evidence`.
        claims: names of claims. None: all.
        jobs: dict from the name of a known run of these claims to its `Job`.
        workdirs: folder of the runs in progress.
    """
    results = evidence.results
    if flags.run:
        train(jobs[flags.run], workdirs, results, require_commit())
    elif flags.train:
        require_commit()
        claims = trainable(evidence, claims)
        if any(job.keys.get("dataset") == DATA for job in jobs.values()):
            make_data()
        try:
            run_queue.train_all(evidence, claims, workdirs, flags.jobs)
        finally:
            write_tables(evidence)
    elif flags.measure:
        commit = require_commit()
        for job in jobs.values():
            if measure_again(job, workdirs, results, commit):
                print(f"Measured {job.name}", flush=True)
    elif not flags.tables:
        for job in jobs.values():
            print(f"{job.state(results, workdirs):20} {job.name}")
        for name in evidence.waiting():
            print(f"{'waits for its values':20} {name}")
    if flags.tables:
        write_tables(evidence)


if __name__ == "__main__":
    main()
