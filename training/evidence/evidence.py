"""Train the runs that check the papers' claims, and make their tables.

    make evidence           # the state of every run, train what is missing
    make evidence-tables    # rebuild docs/evidence.md

`runs.toml` defines runs and claims. Runs are trained with
`keras-dropblock-train`, one after another, and can be stopped and resumed. The
small files of a finished run are copied to `results`. Tables and pictures are
made from these alone.
"""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np

import claim_tables
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
MEASURED = 1000  # test images


def write_tables(evidence):
    from keras_dropblock import files

    for name, claim in evidence.claims.items():
        if any(evidence.finished(run) for run in claim["runs"]):
            path = ROOT / "docs" / "evidence" / f"{name}.png"
            claim_tables.draw(evidence, claim, path)
    files.write_text(ROOT / "docs" / "evidence.md", claim_tables.page(evidence))
    print("Wrote docs/evidence.md")


def make_data():
    """Write the .npz file of 5,000 training images, if it does not exist."""
    from keras_dropblock import data, files

    path = ROOT / "build" / "evidence" / "cifar10_5000.npz"
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


def train(job, workdirs, results):
    """Train or resume one run, then keep its small files."""
    from keras_dropblock import Recipe

    workdir = workdirs / job.name
    workdir.parent.mkdir(parents=True, exist_ok=True)
    recipe = workdir.parent / f"{workdir.name}.toml"
    Recipe().replaced(job.keys, job.name).write(recipe)
    command = [sys.executable, "-m", "keras_dropblock", "train"]
    command += [f"--recipe={recipe}", f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT)
    # The training process saves a checkpoint and stops.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if code:
        sys.exit(f"{job.name} stopped with exit code {code}. Run this again.")
    target = results / job.name
    target.mkdir(parents=True, exist_ok=True)
    measure(workdir)
    for name in KEPT:
        shutil.copyfile(workdir / name, target / name)


def measure(workdir):
    """Measure the class activation maps of a finished run.

    Writes `measures.json`: means over the first 1,000 test images, for the
    class that the network predicts, and the number of parameters.
    """
    import keras_dropblock as kdb
    from keras_dropblock import files
    from keras_dropblock.analysis import cam, complexity, spread

    model = kdb.load(workdir)
    images, _ = kdb.data.load(model.card.dataset).arrays["test"]
    x = model.card.normalize(images[:MEASURED])
    predicted = model.predict(x, verbose=0).argmax(1)
    maps = cam.class_activation_maps(model, x, predicted)
    measures = spread.measure_spread(maps)
    content = {
        f"map_{name}": scale * float(np.nanmean(measures[name]))
        for name, scale in (("area", 100), ("entropy", 100), ("peaks", 1))
    }
    content["parameters"] = complexity.parameters(model)
    files.write_json(workdir / "measures.json", content)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train")
    parser.add_argument("--tables", action="store_true", help="make tables")
    parser.add_argument("--claims", help="names of claims, with commas")
    parser.add_argument(
        "--workdirs",
        type=pathlib.Path,
        default=ROOT / "runs" / "evidence",
        help="folder of the runs in progress",
    )
    flags = parser.parse_args()
    evidence = Evidence.read()
    claims = flags.claims.split(",") if flags.claims else None
    if flags.train:
        make_data()
        while unfinished := [
            job
            for job in evidence.jobs(claims)
            if job.state(evidence.results, flags.workdirs) != "finished"
        ]:
            print(f"{unfinished[0].name}: {len(unfinished)} to go", flush=True)
            train(unfinished[0], flags.workdirs, evidence.results)
            write_tables(evidence)
    elif not flags.tables:
        for job in evidence.jobs(claims):
            print(
                f"{job.state(evidence.results, flags.workdirs):20} {job.name}"
            )
    if flags.tables:
        write_tables(evidence)


if __name__ == "__main__":
    main()
