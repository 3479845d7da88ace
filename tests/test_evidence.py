"""The runs that check the papers' claims, and their tables."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import claim_pictures
import claim_tables
import claims
import comparison
import evidence
import run_queue
from keras_dropblock import Recipe, data, keys, tasks
from keras_dropblock.training import evaluation, plan
from small_runs import card

BASE = {"model": "WRN-10-1", "epochs": 4, "learning_rate_drops": [2, 4]}
DEFINITIONS = {
    "base": {"tiny": BASE},
    "runs": {
        "plain": {"base": "tiny"},
        "drop": {"base": "tiny", "try": {"dropout": [0.1, 0.3]}},
    },
    "claims": {
        "dropout": {
            "title": "Dropout",
            "source": "a table",
            "runs": ["plain", "drop"],
            "baseline": "plain",
            "columns": ["loss_rise", "map_area"],
            "questions": [
                {"text": "Does it help?", "better": "drop", "than": "plain"}
            ],
        }
    },
}


@pytest.fixture
def tiny(tmp_path):
    return claims.Evidence(DEFINITIONS, tmp_path)


def finish(tiny, name, accuracy, losses=(3.0, 1.0, 1.5, 1.25)):
    """Write the files of a finished run."""
    folder = tiny.results / name
    folder.mkdir(parents=True)
    recipe = Recipe().replaced(BASE, "test")
    recipe.write(folder / "recipe.toml")
    card().write(folder)
    rows = ["epoch,images_per_second,validation_loss,regularization_loss"]
    for i, loss in enumerate(losses):
        decay = 0.5 - i / 8
        rows.append(f"{i},100.0,{loss + decay},{decay}")
    (folder / "history.csv").write_text("\n".join(rows) + "\n")
    session = {"versions": {"keras": "3.15.1"}, "commit": "abc"}
    session |= {"started": "2026-11-29T17:45:33+00:00"}
    scores = {"accuracy": accuracy, "nll": 0.5, "ece": 0.02}
    for file, content in {
        "run.json": {"images": {"train": 3000}, "sessions": [session]},
        "measures.json": {"map_area": 10 * accuracy, "parameters": 77_562},
        "metrics.json": {**scores, "validation": {"accuracy": accuracy}},
    }.items():
        (folder / file).write_text(json.dumps(content))


def test_a_value_is_chosen_by_its_validation_score(tiny):
    assert tiny.chosen("plain") == {}
    assert tiny.job("drop", 0) is None  # no value is known yet
    assert [job.name for job in tiny.jobs(seeds=1)] == [
        "drop/try_0.1",
        "drop/try_0.3",
        "plain/seed_0",
    ]
    finish(tiny, "drop/try_0.1", 0.25)
    finish(tiny, "drop/try_0.3", 0.5)
    assert tiny.chosen("drop") == {"dropout": 0.3}
    assert tiny.job("drop", 2) == claims.Job(
        "drop/seed_2", {**BASE, "dropout": 0.3, "seed": 2}
    )


def test_a_run_takes_the_values_that_its_base_has_chosen(tiny):
    both = {"base": "drop", "width": 2, "try": {"keep_prob": [0.9, 0.8]}}
    tiny.runs["both"] = both
    try:
        assert tiny.tries("both") == {} and tiny.job("both", 0) is None
        assert tiny.waiting() == ["drop", "both"]
        finish(tiny, "drop/try_0.1", 0.25)
        finish(tiny, "drop/try_0.3", 0.5)
        keys_ = {**BASE, "dropout": 0.3, "width": 2}
        assert [job.keys for job in tiny.tries("both").values()] == [
            {**keys_, "keep_prob": value, "seed": 1000} for value in (0.9, 0.8)
        ]
        finish(tiny, "both/try_0.9", 0.5)
        finish(tiny, "both/try_0.8", 0.25)
        keys_ |= {"keep_prob": 0.9, "seed": 1}
        assert tiny.job("both", 1) == claims.Job("both/seed_1", keys_)
        assert tiny.waiting() == []
        assert tiny.differences("both") == {
            "dropout": 0.3,
            "width": 2,
            "keep_prob": 0.9,
        }
    finally:
        del tiny.runs["both"]


def test_the_page_lists_the_values_tried_and_the_hours(tiny):
    finish(tiny, "drop/try_0.1", 0.25)
    finish(tiny, "drop/try_0.3", 0.5)
    finish(tiny, "drop/seed_0", 0.5)
    page = claim_tables.page(tiny)
    assert "- drop: 25.0 with dropout = 0.1, 50.0 with dropout = 0.3\n" in page
    # Each of the three runs has 4 epochs of 3,000 images at 100 images/s.
    assert "3 runs are finished, with 0.1 hours of training steps." in page
    assert "\n- keras 3.15.1; 2026-11-29; commits abc\n" in page


def test_the_page_tells_of_code_with_changes(tiny):
    for seed, commit in enumerate(["0123456789abc with changes", None]):
        finish(tiny, f"drop/seed_{seed}", 0.5)
        path = tiny.results / f"drop/seed_{seed}/run.json"
        run = json.loads(path.read_text())
        run["sessions"][0]["commit"] = commit
        path.write_text(json.dumps(run))
    page = claim_tables.page(tiny)
    assert "; commits 0123456789 with changes, unknown\n" in page


@pytest.mark.parametrize("commit", [None, "0123 with changes"])
def test_runs_need_a_commit(commit, monkeypatch):
    monkeypatch.setattr(
        "keras_dropblock.runs.versions.commit", lambda *x: commit
    )
    with pytest.raises(SystemExit, match=f"must be a commit.*{commit}"):
        evidence.require_commit()
    monkeypatch.setattr(
        "keras_dropblock.runs.versions.commit", lambda *x: "0123"
    )
    assert evidence.require_commit() == "0123"


def test_two_keys_make_a_heat_map(tiny):
    definitions = {"base": DEFINITIONS["base"], "claims": {}}
    tried = {"keep_prob": [0.9, 0.8], "block_size": [1, 3]}
    definitions["runs"] = {"grid": {"base": "tiny", "try": tried}}
    grid = claims.Evidence(definitions, tiny.results)
    for values, accuracy in (("0.9_1", 0.25), ("0.9_3", 0.5), ("0.8_1", 0.125)):
        finish(grid, f"grid/try_{values}", accuracy)
    assert grid.chosen("grid") is None  # one pair is missing
    (accuracy, *_) = tasks.Classification.metrics
    path = tiny.results / "heat_map.png"
    claim_pictures.draw_heat_map(grid, "grid", accuracy, path)
    assert path.stat().st_size > 5000
    assert claim_tables.heat_map(grid, "grid", accuracy).splitlines() == [
        r"| keep_prob \\ block_size | 1 | 3 |",
        "| ---: | ---: | ---: |",
        "| 0.9 | 25.0 | 50.0 |",
        "| 0.8 | 12.5 | – |",
    ]
    finish(grid, "grid/try_0.8_3", 0.375)
    assert grid.chosen("grid") == {"keep_prob": 0.9, "block_size": 3}


def test_a_table_by_hand(tiny):
    finish(tiny, "drop/try_0.1", 0.5)
    finish(tiny, "drop/try_0.3", 0.25)
    for seed, (plain, drop) in enumerate(
        [(0.5, 0.5), (0.5, 0.625), (0.625, 0.75)]
    ):
        finish(tiny, f"plain/seed_{seed}", plain)
        finish(tiny, f"drop/seed_{seed}", drop)
    text = claim_tables.table(tiny, "dropout")
    rows = [line.split(" | ") for line in text.splitlines()]
    plain, drop = rows[2], rows[3]
    # 50, 50, 62.5: mean 54.17, deviation 12.5 / sqrt(3) = 7.22.
    assert plain[:4] == ["| plain", "–", "3", "54.17 ± 7.22"]
    assert drop[:4] == ["| drop", "dropout = 0.1", "3", "62.50 ± 12.50"]
    # After the drop at epoch 2, the loss without weight decay is 1.0. Before
    # the drop at epoch 4 it is 1.5.
    assert plain[6] == "0.5000 ± 0.0000"
    # 0, 12.5, 12.5: mean 8.33, standard error 7.22 / sqrt(3) = 4.17.
    assert (plain[8], drop[8]) == ("–", "+8.33 ± 4.17")
    # 4 epochs of 3,000 images at 100 images/s take 2 minutes.
    assert plain[9:] == ["77,562", "2.0 |"]
    assert rows[-1][0].startswith("- Does it help? **")


@pytest.mark.parametrize(
    "gains, verdict",
    [
        ((0.0625, 0.125, 0.125), "**Yes**"),
        ((-0.0625, -0.125, -0.125), "**No**"),
        ((-0.125, 0.0, 0.125), "**Not decided**"),
        # Mean 0.0625, standard error 0.0361.
        ((0.0, 0.0625, 0.125), "**Not decided**"),
        ((0.0, 0.0, 0.0), "**Not decided**"),
        ((0.125, 0.125), "Not measured yet: 2 of 3 seeds"),
    ],
)
def test_an_answer_needs_three_seeds_and_two_standard_errors(
    tiny, gains, verdict
):
    for seed, gain in enumerate(gains):
        finish(tiny, f"plain/seed_{seed}", 0.5)
        finish(tiny, f"drop/seed_{seed}", 0.5 + gain)
    runs = tiny.finished("drop"), tiny.finished("plain")
    column = comparison.metrics()[0]
    question = {"text": "?", "better": "drop", "than": "plain"}
    sentence = comparison.answer(question, tiny, column).sentence
    assert verdict in sentence
    assert ("drop minus plain is" in sentence) == (len(gains) == 3)
    n, mean, error = comparison.difference(*runs, column)
    assert n == len(gains)
    assert mean == pytest.approx(100 * np.mean(gains))
    expected = 100 * np.std(gains, ddof=1) / math.sqrt(n)
    assert error == pytest.approx(expected)


def test_two_columns_are_compared_within_runs(tiny):
    for seed in range(3):
        finish(tiny, f"plain/seed_{seed}", 0.5)
        path = tiny.results / f"plain/seed_{seed}/measures.json"
        measures = {"redundancy_units": 30 + seed, "redundancy_blocks": 10}
        path.write_text(json.dumps(measures))
    question = {"text": "?", "better": "plain", "than": "plain"}
    question |= {"column": "redundancy_units"}
    question |= {"than_column": "redundancy_blocks"}
    main = comparison.metrics()[0]
    assert comparison.answer(question, tiny, main).sentence == (
        "? **Yes**: plain (R² of dropped single units) minus plain (R² of "
        "units in dropped blocks) is +21.0 ± 0.6 points (mean and standard "
        "error of 3 pairs of runs with equal seeds)."
    )


def test_a_number_that_a_run_does_not_have_is_left_out(tiny):
    for name in ("plain/seed_0", "plain/seed_1", "drop/seed_0"):
        finish(tiny, name, 0.5)
    path = tiny.results / "plain/seed_0/measures.json"
    path.write_text('{"gate": 25.0, "parameters": 1}')
    runs, gate = tiny.finished("plain"), comparison.COLUMNS["gate"]
    assert gate.of(runs) == {0: 25.0}
    assert comparison.difference(runs, tiny.finished("drop"), gate)[0] == 0
    tiny.claims["dropout"]["columns"].append("gate")
    try:
        plain, drop = claim_tables.table(tiny, "dropout").splitlines()[2:4]
        assert plain.split(" | ")[8] == "25.0"
        assert drop.split(" | ")[8] == "–"
    finally:
        tiny.claims["dropout"]["columns"].remove("gate")


def test_a_number_that_is_not_finite_is_left_out(tiny):
    for seed in range(3):
        finish(tiny, f"plain/seed_{seed}", 0.5)
        finish(tiny, f"drop/seed_{seed}", 0.625 if seed else math.nan)
    main = comparison.metrics()[0]
    question = {"text": "?", "better": "drop", "than": "plain"}
    found = comparison.answer(question, tiny, main)
    assert not found.known and found.mean == 12.5
    assert found.sentence == "? Not measured yet: 2 of 3 seeds."
    row = claim_tables.table(tiny, "dropout").splitlines()[3]
    assert "62.50 ± 0.00" in row


def test_a_value_whose_run_has_diverged_is_not_chosen(tiny):
    finish(tiny, "drop/try_0.1", math.nan)
    finish(tiny, "drop/try_0.3", 0.125)
    assert tiny.chosen("drop") == {"dropout": 0.3}


def test_the_readme_gets_the_first_answer_of_some_claims(tiny, monkeypatch):
    for seed in range(3):
        finish(tiny, f"plain/seed_{seed}", 0.5)
        finish(tiny, f"drop/seed_{seed}", 0.625)
    assert claim_tables.summary(tiny) == "No comparison is finished yet.\n"
    monkeypatch.setitem(tiny.claims["dropout"], "in_readme", "digits")
    assert claim_tables.summary(tiny).splitlines()[2:] == [
        "| Does it help? (digits) | Yes | test accuracy, %: +12.50 ± 0.00 | 3 |"
    ]
    # The answer is that of the page, also about another column.
    question = {**DEFINITIONS["claims"]["dropout"]["questions"][0]}
    question |= {"column": "map_area"}
    monkeypatch.setitem(tiny.claims["dropout"], "questions", [question])
    text = claim_tables.table(tiny, "dropout")
    assert "**Yes**: drop minus plain is +1.25 ± 0.00 points" in text
    (line,) = claim_tables.summary(tiny).splitlines()[2:]
    assert line.endswith("maximum, %: +1.25 ± 0.00 | 3 |")


VISION = {
    "base": {"boxes": {"task": "detection", "epochs": 2}},
    "runs": {"none": {"base": "boxes"}, "block": {"base": "boxes"}},
    "claims": {
        "detection": {
            "title": "Detection",
            "source": "a table",
            "about": "Few images.",
            "runs": ["none", "block"],
            "baseline": "none",
            "columns": ["train_ap50"],
            "seeds": 1,
        }
    },
}


def test_scores_of_a_claim_are_those_of_its_task(tmp_path):
    detectors = claims.Evidence(VISION, tmp_path / "results")
    assert [job.name for job in detectors.jobs()] == [
        "none/seed_0",
        "block/seed_0",
    ]
    for name, score in (("none", 0.5), ("block", 0.625)):
        finish(detectors, f"{name}/seed_0", 0)
        folder = detectors.results / name / "seed_0"
        scores = {"ap": score, "ap50": 2 * score, "ap75": score / 2}
        (folder / "metrics.json").write_text(json.dumps(scores))
        measures = {"train_ap50": 99, "parameters": 5}
        (folder / "measures.json").write_text(json.dumps(measures))
        # AP is not measured after every epoch.
        (folder / "history.csv").write_text(
            "epoch,images_per_second,loss,regularization_loss,test_ap\n"
            "0,9,2,1,nan\n1,9,1,0.5,0.5\n"
        )
    heads, _, none, drop = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in claim_tables.table(detectors, "detection").splitlines()[:4]
    )
    assert heads[3:8] == [
        "test AP, %",
        "test AP50, %",
        "test AP75, %",
        "AP50 on the training images, %",
        "difference in test AP, %",
    ]
    assert none[3:8] == ["50.00", "100.00", "25.00", "99.00", "–"]
    assert drop[7] == "+12.50"
    runs = [*detectors.finished("none").values()]

    def ap(run, row):
        return float(row["test_ap"])

    assert claim_pictures._mean_curve(runs, ap) == ([2], [0.5])
    # Keras logs the parts without their weights, 50 and the 0 classes of
    # this card.
    parts = {"bbox_regression_loss": "0.01", "cls_logits_loss": "0.1"}
    assert comparison.data_loss(runs[0], parts) == pytest.approx(0.5)
    claim_pictures.draw(detectors, "detection", tmp_path / "c.png")
    # Two curves, and the legend beside them.
    assert imread(tmp_path / "c.png").shape[1] == 2 * 540 + 276
    # A run that is scored only at its end has no curve of scores.
    (folder / "history.csv").write_text(
        "epoch,images_per_second,loss,regularization_loss\n0,9,2,1\n"
    )
    claim_pictures.draw(detectors, "detection", tmp_path / "c.png")
    assert imread(tmp_path / "c.png").shape[1] == 540 + 276
    assert "\nFew images.\n" in claim_tables.page(detectors)


def test_claims_about_detection_are_left_out_without_keras_hub(
    tmp_path, monkeypatch, capsys
):
    both = {part: {**VISION[part], **DEFINITIONS[part]} for part in VISION}
    known = claims.Evidence(both, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert evidence.trainable(known, None) == ["dropout"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Left out: detection. It needs KerasHub.")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert evidence.trainable(known, ["detection"]) == ["detection"]
    keys_ = {**VISION["base"]["boxes"], "dataset": f"coco:{tmp_path}/no"}
    monkeypatch.setitem(both["base"], "boxes", keys_)
    assert evidence.trainable(known, ["detection"]) == []
    assert "Its images are missing: " in capsys.readouterr().out


def test_pairs_have_equal_seeds(tiny):
    finish(tiny, "plain/seed_0", 0.5)
    finish(tiny, "plain/seed_1", 0.25)
    finish(tiny, "drop/seed_1", 0.5)
    runs = tiny.finished("drop"), tiny.finished("plain")
    assert comparison.difference(*runs, comparison.metrics()[0]) == (
        1,
        25.0,
        None,
    )


def test_runs_are_trained_several_at_a_time(tiny, tmp_path, monkeypatch):
    most, started = [], []

    def start(job, workdirs, processes):
        alive = [process for process in started if process.poll() is None]
        most.append(len(alive) + 1)
        finish(tiny, job.name, 0.25 if "0.1" in job.name else 0.5)
        code = f"import time; time.sleep({0.2 * len(most)})"
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1]

    monkeypatch.setattr(run_queue, "start", start)
    run_queue.train_all(tiny, None, tmp_path, 2)
    names = {job.name for job in tiny.jobs()}
    # Two values are tried. The better one is trained with three seeds.
    assert len(started) == len(names) == 2 + 3 + 3
    assert tiny.chosen("drop") == {"dropout": 0.3}
    assert max(most) == 2 and all(p.returncode == 0 for p in started)


def test_a_failed_run_does_not_stop_the_others(
    tiny, tmp_path, monkeypatch, capsys
):
    started = {}

    def start(job, workdirs, processes):
        fails = job.name == "plain/seed_1"
        if not fails:
            finish(tiny, job.name, 0.25)
        code = f"raise SystemExit({3 * fails})"
        started[job.name] = subprocess.Popen([sys.executable, "-c", code])
        return started[job.name]

    monkeypatch.setattr(run_queue, "start", start)
    with pytest.raises(SystemExit, match="Not finished: plain/seed_1. Run"):
        run_queue.train_all(tiny, None, tmp_path, 2)
    assert len(started) == 2 + 3 + 3
    assert "plain/seed_1 stopped with exit code 3" in capsys.readouterr().out


def test_sigterm_stops_all_runs(tiny, tmp_path, monkeypatch):
    started = []

    def start(job, workdirs, processes):
        stop = "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"
        code = stop if started else "import time; time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1]

    monkeypatch.setattr(run_queue, "start", start)
    with pytest.raises(SystemExit, match="Stopped. Run this again to resume."):
        run_queue.train_all(tiny, None, tmp_path, 2)
    assert started[0].wait(10) == -signal.SIGTERM


def test_a_run_has_its_share_of_the_cores_and_a_session_of_its_own(
    tmp_path, monkeypatch
):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.environ['TF_NUM_INTRAOP_THREADS'])\n"
        "print(os.getsid(0) == os.getpid())\n"
    )
    monkeypatch.setattr(run_queue, "SCRIPT", script)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    job = claims.Job("plain/seed_0", {})
    for _ in range(2):  # the log of a resumed run is kept
        assert run_queue.start(job, tmp_path, 2).wait(20) == 0
    # Ctrl-C is sent to all processes of a session, so it does not reach a run.
    line = f"['--run=plain/seed_0', '--workdirs={tmp_path}'] 4\nTrue\n"
    assert (tmp_path / "plain" / "seed_0.log").read_text() == 2 * line


@pytest.fixture
def command(tiny, monkeypatch):
    """A function that calls the command with flags, on three small runs."""
    monkeypatch.setattr(claims.Evidence, "read", lambda: tiny)

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["evidence.py", *flags])
        monkeypatch.chdir(tiny.results)
        evidence.main()

    return call


@pytest.mark.parametrize(
    "flag, text",
    [
        ("--claims=drop", "--claims must be some of: dropout. Received: drop."),
        ("--jobs=0", "--jobs must be at least 1. Received: 0."),
        ("--run=plain", "--run must be one of: .*seed_0.*Received: plain."),
    ],
)
def test_wrong_flags_are_named(command, capsys, flag, text):
    with pytest.raises(SystemExit, match="2"):
        command(flag)
    assert re.search(text, capsys.readouterr().err)


def test_one_run_is_trained_from_a_commit(command, tiny, monkeypatch):
    trained = []
    monkeypatch.setattr(evidence, "train", lambda *args: trained.append(args))
    monkeypatch.setattr(
        "keras_dropblock.runs.versions.commit", lambda *x: "0123 with changes"
    )
    with pytest.raises(SystemExit, match="must be a commit"):
        command("--run=plain/seed_1")
    monkeypatch.setattr(
        "keras_dropblock.runs.versions.commit", lambda *x: "0123"
    )
    command("--run=plain/seed_1", "--workdirs=here")
    (job,) = (job for job in tiny.jobs() if job.name == "plain/seed_1")
    assert trained == [(job, tiny.results / "here", tiny.results, "0123")]


def test_errors_of_the_package_are_one_line(command, monkeypatch):
    def fail(*_):
        raise data.DataError("No images.")

    monkeypatch.setattr(evidence, "write_tables", fail)
    with pytest.raises(SystemExit, match="^evidence.py: No images.$"):
        command("--tables")


def test_the_state_of_each_run_is_shown(command, tiny, capsys):
    finish(tiny, "drop/try_0.1", 0.5)
    command()
    lines = [
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    ]
    assert lines[:2] == [
        ["finished", "drop/try_0.1"],
        ["missing", "drop/try_0.3"],
    ]
    assert lines[-1] == ["waits", "for its values drop"]


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_a_run_is_trained_measured_and_kept(tmp_path):
    keys_ = {"dataset": "digits", "model": "WRN-10-1", "epochs": 3}
    keys_ |= {"learning_rate_drops": [2, 3], "seed": 2}
    job = claims.Job("run/seed_2", keys_)
    evidence.train(job, tmp_path, tmp_path / "kept", "0123")
    kept = tmp_path / "kept" / "run" / "seed_2"
    assert {*evidence.KEPT} == {path.name for path in kept.iterdir()}
    measures = json.loads((kept / "measures.json").read_text())
    assert (measures["parameters"], measures["commit"]) == (77_562, "0123")
    assert 0 < measures["map_area"] <= 100
    # A fraction is at most 1; a guess would be right in 10 %.
    assert 5 < measures["accuracy_left_on"] <= 100
    train = evaluation.evaluate(tmp_path / "run" / "seed_2", "train")
    assert measures["train_accuracy"] == 100 * train["accuracy"]
    # The network has neither gates nor layers that drop.
    assert not {"gate", "sampled_nll"} & {*measures}
    assert measures["redundancy_units"] <= 100 and measures["nll"] > 0


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "model, key",
    [
        ({"model": "HighwayNet-10-1"}, "gate"),
        ({"model": "WRN-10-1", "dropout": 0.3}, "sampled_nll"),
    ],
)
def test_a_finished_run_is_measured_again(tmp_path, model, key):
    keys_ = {"dataset": "digits", "epochs": 2, "learning_rate_drops": [2]}
    job = claims.Job("run/seed_2", {**keys_, **model, "batch_size": 512})
    evidence.train(job, tmp_path, tmp_path / "kept", "0123")
    path = tmp_path / "kept" / "run" / "seed_2" / "measures.json"
    found = json.loads(path.read_text())
    path.write_text("{}")
    assert evidence.measure_again(job, tmp_path, tmp_path / "kept", "4567")
    # The masks are the same, too.
    assert json.loads(path.read_text()) == {**found, "commit": "4567"}
    assert 0 < found[key] < 100
    shutil.rmtree(tmp_path / "run")
    assert not evidence.measure_again(job, tmp_path, tmp_path / "kept", "4567")


def test_all_defined_runs_are_valid_recipes():
    known = claims.Evidence.read()
    assert len(known.claims) >= 6
    assert known.keys("schedule")["dataset"] == evidence.DATA
    for claim in known.claims.values():
        assert claim["baseline"] in claim["runs"]
        assert {*claim.get("columns", ())} <= {*comparison.COLUMNS}
        for question in claim.get("questions", ()):
            assert {question["better"], question["than"]} <= {*claim["runs"]}
            names = {question.get(k) for k in ("column", "than_column")}
            assert names - {None} <= {*claim.get("columns", ())}
    for name in list(known.runs):
        jobs = [*known.tries(name).values()] or [known.job(name, 0)]
        if jobs == [None]:  # its base has not chosen yet
            base = known.runs[known.runs[name]["base"]]
            own = {k: v for k, v in known.runs[name].items() if k != "try"}
            first = {k: v[0] for k, v in known.runs[name]["try"].items()}
            chosen = {k: v[0] for k, v in base["try"].items()}
            own |= {"base": base["base"], **chosen, **first}
            known.runs["first"] = own
            jobs = [known.job("first", 0)]
            del known.runs["first"]
        for job in jobs:
            recipe = Recipe().replaced(job.keys, job.name)
            plan.check(plan.settled(recipe))


def test_the_page_is_made_from_the_committed_results():
    known = claims.Evidence.read()
    committed = evidence.ROOT / "docs" / "evidence.md"
    assert committed.read_text("utf-8") == claim_tables.page(known)
    readme = (evidence.ROOT / "README.md").read_text("utf-8")
    part = readme.split("<!-- evidence -->\n\n")[1]
    assert part.split("\n<!-- /evidence -->")[0] == claim_tables.summary(known)
    for path in known.results.glob("*/*"):
        assert {*evidence.KEPT} == {file.name for file in path.iterdir()}
        run, seed = path.parent.name, path.name
        assert run in known.runs
        recipe = keys.parse((path / "recipe.toml").read_text("utf-8"), seed)
        defined = [*known.tries(run).values()]
        if seed.startswith("seed_"):
            defined = [known.job(run, int(seed.removeprefix("seed_")))]
        (job,) = (job for job in defined if job.name == f"{run}/{seed}")
        assert job.keys.items() <= recipe.items()


def test_the_images_are_stratified_and_disjoint(tmp_path, monkeypatch):
    chosen = {
        split: [
            int(number)
            for number in (claims.FOLDER / f"cifar10_{split}.txt")
            .read_text("utf-8")
            .split()
        ]
        for split in ("train", "validation")
    }
    every = [*chosen["train"], *chosen["validation"]]
    assert len({*every}) == len(every) == 6000
    assert min(every) >= 0 and max(every) < 50_000
    labels = np.zeros(50_000, "int64")
    labels[chosen["train"]] = np.arange(5000)
    images = np.zeros((50_000, 1, 1, 1), "uint8")
    cifar10 = data.ArrayDataset(
        {"train": (images, labels), "test": (images[:7], labels[:7])}
    )
    monkeypatch.setattr(data, "load", lambda name: cifar10)
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    evidence.make_data()
    path = tmp_path / "build" / "evidence" / "cifar10_5000.npz"
    with np.load(path) as file:
        np.testing.assert_array_equal(file["y_train"], np.arange(5000))
        assert len(file["y_validation"]) == 1000
        assert len(file["y_test"]) == 7


def test_a_class_has_500_training_and_100_validation_images():
    from test_data import prepared

    labels = prepared("cifar10").labels("train")
    for split, count in (("train", 500), ("validation", 100)):
        text = (claims.FOLDER / f"cifar10_{split}.txt").read_text("utf-8")
        indices = [int(number) for number in text.split()]
        assert np.bincount(labels[indices]).tolist() == [count] * 10


@pytest.mark.slow
def test_a_run_is_trained_and_its_files_are_kept(tmp_path):
    tiny = claims.Evidence(
        {
            **DEFINITIONS,
            "base": {
                "tiny": {
                    **BASE,
                    "dataset": "digits",
                    "batch_size": 512,
                    "validation_split": 0.2,
                }
            },
        },
        tmp_path / "results",
    )
    job = tiny.job("plain", 0)
    workdirs = tmp_path / "runs"
    assert job.state(tiny.results, workdirs) == "missing"
    evidence.train(job, workdirs, tiny.results, "0123")
    assert job.state(tiny.results, workdirs) == "finished"
    kept = tiny.results / "plain" / "seed_0"
    assert {path.name for path in kept.iterdir()} == {*evidence.KEPT}
    assert 0 < comparison.measured("map_area", tiny.finished("plain")[0]) <= 100
    claim_pictures.draw(tiny, "dropout", tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    shutil.rmtree(tiny.results)
    assert job.state(tiny.results, workdirs) == "4 of 4 epochs"


def test_curves_of_the_same_runs_are_drawn_once(tiny, tmp_path, monkeypatch):
    tiny.claims = {**tiny.claims, "again": tiny.claims["dropout"]}
    for name in ("drop/try_0.1", "drop/try_0.3", "drop/seed_0"):
        finish(tiny, name, 0.25)
    drawn = []
    monkeypatch.setattr(
        claim_pictures, "draw", lambda *args: drawn.append(args)
    )
    claim_pictures.draw_all(tiny, tmp_path)
    assert drawn == [(tiny, "dropout", tmp_path / "dropout.png")]
    text = claim_tables.page(tiny)
    assert text.count("![Curves") == 1 and "(evidence/dropout.png)" in text
