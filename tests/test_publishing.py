"""Publishing runs in a temporary checkout."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import card_metrics
import model_names
import pages
import publish as publication
import publish_rules
from cards_check import check_cards, check_folder
from keras_dropblock import data, hub, load, runs
from keras_dropblock.errors import WeightsError, WorkdirError
from keras_dropblock.files import write_json
from keras_dropblock.hub import Card, registry, weights
from keras_dropblock.runs.workdir import Session, taken
from keras_dropblock.tasks import Classification
from keras_dropblock.training import evaluation, plan, trainer
from keras_dropblock.training.recipe import Recipe
from small_runs import COMMIT, change, commit, small

NAME = "wrn_10_1_quadrants_dropblock_dropout"
SPEEDS = ((0, 100.0), (1, 300.0), (2, 200.0))


@pytest.fixture(scope="module")
def trained(npz, tmp_path_factory):
    """The files of a run of three epochs, without training, to be fast.

    The test of the command publishes a run that was trained.
    """
    workdir = tmp_path_factory.mktemp("trained") / "seed0"
    resolved = plan.resolve(small(npz), "seed0")
    model = resolved.model(steps_per_epoch=5)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3))
    model(images.astype("float32"), training=True)  # batch statistics
    with taken(workdir, resolved.recipe):
        Session(workdir, resolved.dataset, 0, 0).finish()
    resolved.card.write(workdir)
    model.save_weights(workdir / "model.weights.h5")
    columns = "epoch,accuracy,loss,test_accuracy,test_loss"
    rows = [f"{epoch},0.5,1,0.5,1,0.1,{speed}\n" for epoch, speed in SPEEDS]
    (workdir / "history.csv").write_text(
        f"{columns},learning_rate,images_per_second\n{''.join(rows)}"
    )
    write_json(workdir / "metrics.json", evaluation.evaluate(workdir))
    change(workdir / "run.json", commit(COMMIT))
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run, which a test can change."""
    return shutil.copytree(trained, tmp_path / "seed0")


@pytest.fixture
def seeds(run):
    """Two runs that differ only in the seed, and what is published of them."""
    other = shutil.copytree(run, run.with_name("seed1"))
    model = evaluation.load_run(other)[0]
    for variable in learned(model):
        variable.assign(variable + 1.0)
    model.save_weights(other / "model.weights.h5")
    Recipe.from_toml(run / "recipe.toml").override(["seed=1"]).write(
        other / "recipe.toml"
    )
    scores = json.loads((run / "metrics.json").read_text())
    scores["accuracy"] -= 0.1
    write_json(other / "metrics.json", scores)
    return [run, other]


def learned(model):
    """The variables that a weights file contains."""
    return [v for v in model.weights if v.name != "keep_prob"]


def test_publishing_a_run_writes_weights_card_and_table_rows(
    run, checkout, npz
):
    recipe = checkout / "training" / "recipes" / f"{NAME}.toml"
    recipe.write_text("# It. Not run by this project yet.\nepochs = 3\n")
    folder = publication.publish([run], checkout)
    assert folder == checkout / "models" / NAME
    pictures = ["confusion.png", "cam.png"]
    check_folder(folder, pictures, pathlib.Path(npz).parent)
    scores = json.loads((run / "metrics.json").read_text())
    metrics = Card.from_folder(folder).metrics
    for key, score in metrics["scores"].items():
        assert score == {"mean": scores[key], "std": None}
    assert metrics["n"] == 1 and metrics["training"]["commit"] == COMMIT
    assert metrics["training"]["images_per_second"] == 200  # the median
    hours = 3 * 100 / 200 / 3600  # three epochs of a hundred images
    assert metrics["training"]["hours"] == pytest.approx(hours, abs=1e-4)
    card = (folder / "README.md").read_text()
    words = " ".join(card.split())
    accuracy = f"{100 * scores['accuracy']:.2f}"
    assert f"| accuracy, % | {accuracy} | {accuracy} |" in card
    assert "There is one run, so the spread over seeds is unknown" in words
    for page, link in (
        ("README.md", "models/"),
        ("docs/zoo.md", "../models/"),
        ("models/README.md", ""),
    ):
        row = (checkout / page).read_text().splitlines()[5]
        assert row.startswith(f"| [{NAME}]({link}{NAME}/README.md) | quad")
        assert accuracy in row
    assert recipe.read_text() == (
        f"# It. Result: models/{NAME}/README.md.\nepochs = 3\n"
    )
    model = load(NAME)
    for ours, theirs in zip(
        learned(model), learned(evaluation.load_run(run)[0]), strict=True
    ):
        assert np.array_equal(ours, theirs)
    assert model.card.dataset == "quadrants.npz"
    check_cards(checkout)


def test_a_card_says_how_often_the_test_split_was_evaluated(run, checkout):
    folder = publication.publish([run], checkout)
    card = Card.from_folder(folder)
    recipe = Recipe.from_toml(folder / "recipe.toml")
    assert card.metrics["test"]["each_epoch"]
    assert "split was evaluated after each epoch" in prose(card, recipe)
    # a data set with a validation split of its own, as CamVid
    card.metrics["test"]["each_epoch"] = False
    text = prose(card, recipe)
    assert "The validation split was evaluated after each epoch." in text
    part = recipe.replaced({"validation_split": 0.2}, "test")
    assert "split, 0.2 of the training images, was" in prose(card, part)
    assert "dtype `float32` as in training" in text


def prose(card, recipe):
    """The page of a card, on one line."""
    return " ".join(pages.card_page(card, recipe).split())


def test_an_edited_card_fails_the_check(run, checkout):
    folder = publication.publish([run], checkout)
    check_cards(checkout)
    metrics = Card.from_folder(folder).metrics
    accuracy = metrics["scores"]["accuracy"]["mean"]
    spoilt = (
        (folder / "card.json", str(accuracy), "0.999"),
        (folder / "README.md", f"{100 * accuracy:.2f}", "99.90"),
        (checkout / "README.md", f"{100 * accuracy:.2f}", "99.90"),
        (registry.REGISTRY, str(accuracy), "0.999"),
        (folder / "recipe.toml", "seed = 0", "seed = 5"),
    )
    for path, old, new in spoilt:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(AssertionError):
            check_cards(checkout)
        path.write_text(text)
    check_cards(checkout)
    file = checkout / "saved_models" / NAME / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError):
        check_cards(checkout)


def test_several_seeds_give_mean_and_std_and_the_first_ones_weights(
    seeds, checkout
):
    folder = publication.publish(seeds, checkout, in_wheel=True)
    metrics = Card.from_folder(folder).metrics
    first = metrics["runs"][0]["accuracy"]
    accuracy = metrics["scores"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(first - 0.05)
    # The sample standard deviation of two values d apart is d / sqrt(2).
    assert accuracy["std"] == pytest.approx(0.1 / 2**0.5)
    assert metrics["n"] == 2 and metrics["seeds"] == [0, 1]
    assert metrics["weights"]["seed"] == 0
    card = (folder / "README.md").read_text()
    words = " ".join(card.split())
    assert "Mean ± standard deviation of 2 runs, seeds 0, 1." in words
    expected = f"{100 * accuracy['mean']:.2f} ± 7.07 | {100 * first:.2f} |"
    assert expected in card
    packaged = weights.PACKAGED / f"{NAME}.weights.h5"
    assert packaged.stat().st_size == metrics["weights"]["bytes"]
    assert not (
        checkout / "saved_models"
    ).exists()  # the weights are only in the wheel
    assert weights.digest(packaged) == metrics["weights"]["sha256"]
    check_cards(checkout)
    first, other = (evaluation.load_run(run)[0] for run in seeds)
    for ours, theirs, others in zip(
        *map(learned, (load(NAME), first, other)), strict=True
    ):
        assert np.array_equal(ours, theirs)
        assert not np.array_equal(ours, others)


def set_speeds(workdir, speeds):
    """Replace the images per second of each epoch in a run's history."""
    head, *lines = (workdir / "history.csv").read_text().splitlines()
    assert head.endswith(",images_per_second") and len(lines) == len(speeds)
    for i, speed in enumerate(speeds):
        lines[i] = f"{lines[i].rpartition(',')[0]},{speed}"
    (workdir / "history.csv").write_text("\n".join([head, *lines, ""]))


def test_epochs_too_short_to_be_timed_do_not_count(run):
    # An epoch of fewer than three steps, also after a resume, logs 0.
    set_speeds(run, [0.0, 300.0, 100.0])
    (finished_run,) = runs.finished([run])
    assert finished_run.images_per_second == 200
    assert finished_run.hours == pytest.approx(3 * 100 / 200 / 3600)


def test_a_run_that_was_too_short_to_be_timed_is_published(seeds, checkout):
    first, second = seeds
    set_speeds(first, [0.0, 0.0, 0.0])
    untimed, timed = runs.finished(seeds)
    assert untimed.images_per_second is None and untimed.hours is None
    # The mean includes only the runs that have a speed.
    training = card_metrics.summary([untimed, timed], Classification.metrics)[
        "training"
    ]
    assert training["images_per_second"] == 200
    assert training["hours"] == pytest.approx(300 / 200 / 3600, abs=1e-4)

    folder = publication.publish([first], checkout)
    metrics = Card.from_folder(folder).metrics
    assert metrics["training"]["hours"] is None
    assert metrics["runs"][0]["images_per_second"] is None
    card = (folder / "README.md").read_text()
    assert "| speed | – |" in card and "| time | – |" in card
    row = (checkout / "models" / "README.md").read_text().splitlines()[5]
    assert row.split(" | ")[-2] == "–"
    check_cards(checkout)


def test_scores_that_are_not_finite_become_a_dash(seeds, checkout):
    """JSON has no NaN: a card with one would break every later refresh."""
    finished = runs.finished(seeds)
    for run, nll in zip(finished, (float("nan"), 1.0), strict=True):
        run.scores |= {"nll": nll, "validation": {"ece": float("inf")}}
    summary = card_metrics.summary(finished, Classification.metrics)
    json.dumps(summary, allow_nan=False)
    assert summary["scores"]["nll"] == {"mean": None, "std": None}
    assert [run["nll"] for run in summary["runs"]] == [None, 1.0]
    assert summary["runs"][0]["validation"] == {"ece": None}

    folder = publication.publish(seeds, checkout)
    card = Card.from_folder(folder)
    card.metrics.update(scores=summary["scores"], runs=summary["runs"])
    assert "| NLL, nats | – | – |" in pages.card_page(
        card, Recipe.from_toml(folder / "recipe.toml")
    )
    for table in pages.tables([card]).values():
        assert "nan" not in table
    assert " | – | " in pages.tables([card])["models/README.md"]


def test_each_model_of_the_registry_has_its_own_entry(seeds, checkout):
    names = [f"{NAME}_{letter}" for letter in "ab"]
    for run, name in zip(seeds, names, strict=True):
        write_json(run / "metrics.json", evaluation.evaluate(run))
        publication.publish([run], checkout, name=name)
    assert sorted(registry.cards()) == names
    for run, name in zip(seeds, names, strict=True):
        model = hub.load(name)
        assert model.card.name == name
        scores = json.loads((run / "metrics.json").read_text())
        assert model.card.metrics["scores"]["nll"]["mean"] == scores["nll"]
        for ours, theirs in zip(
            learned(model), learned(evaluation.load_run(run)[0]), strict=True
        ):
            assert np.array_equal(ours, theirs)
    check_cards(checkout)


def test_weights_that_are_too_large_need_a_url(run, checkout, monkeypatch):
    monkeypatch.setattr(publish_rules, "IN_GIT", 1000)
    with pytest.raises(publish_rules.PublishError, match="at most 1,000 bytes"):
        publication.publish([run], checkout)
    url = "https://example.org/a/model.weights.h5"
    publication.publish([run], checkout, url=url)
    assert not (checkout / "saved_models").exists()
    file = run / f"{NAME}.weights.h5"
    card = registry.cards()[NAME]
    assert card.metrics["weights"]["url"] == url
    assert card.metrics["weights"]["sha256"] == weights.digest(file)
    # The file of the run also contains the optimizer's momentum.
    assert file.stat().st_size < 0.6 * (
        (run / "model.weights.h5").stat().st_size
    )


def drop(name):
    return lambda run: (run / name).unlink()


def last_epoch_lost(run):
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    (run / "history.csv").write_text("".join(lines[:-1]))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (drop("metrics.json"), "is not finished: 3 of 3 epochs are done, and"),
        (last_epoch_lost, "is not finished: 2 of 3 epochs"),
        (drop("run.json"), "run.json is missing"),
        (
            lambda run: change(
                run / "run.json", commit(f"{COMMIT} with changes")
            ),
            "not trained from a clean commit .*with changes",
        ),
        (
            lambda run: change(run / "run.json", commit(None)),
            "not trained from a clean commit",
        ),
    ],
)
def test_unfinished_and_dirty_runs_are_refused(run, spoil, message):
    assert len(runs.finished([run])) == 1
    spoil(run)
    with pytest.raises(WorkdirError, match=message):
        runs.finished([run])


def test_runs_of_different_recipes_are_rejected(seeds):
    assert [run.recipe["seed"] for run in runs.finished(seeds)] == [0, 1]
    first, other = seeds
    with pytest.raises(WorkdirError, match="Received: seeds 0, 0"):
        runs.finished([first, first])
    with pytest.raises(WorkdirError, match="at least one work directory"):
        runs.finished([])
    recipe = (other / "recipe.toml").read_text()
    Recipe.from_toml(other / "recipe.toml").override(["block_size=5"]).write(
        other / "recipe.toml"
    )
    with pytest.raises(WorkdirError, match="seed1 differs .* in block_size"):
        runs.finished(seeds)
    (other / "recipe.toml").write_text(recipe)
    change(other / "run.json", commit(COMMIT[::-1]))
    with pytest.raises(WorkdirError, match="differs from .* in commit"):
        runs.finished(seeds)


def test_all_sessions_of_a_run_must_use_the_same_code(run):
    def add(info):
        later = {**info["sessions"][0], "versions": {"keras": "4"}}
        info["sessions"].append(later)

    change(run / "run.json", add)
    with pytest.raises(WorkdirError, match="in versions"):
        runs.finished([run])


def test_wrong_names_and_checkouts_are_rejected(run, checkout):
    for name in ("wrn_16_1_quadrants", "WRN_10_1_x", "wrn_10_1", "../up"):
        with pytest.raises(
            publish_rules.PublishError, match=f"you mean '{NAME}'"
        ):
            publication.publish([run], checkout, name=name)
    with pytest.raises(publish_rules.PublishError, match="root of a checkout"):
        publication.publish([run], checkout / "models")
    (checkout / "models" / NAME).mkdir()
    with pytest.raises(
        publish_rules.PublishError, match=f"models/{NAME} already exists"
    ):
        publication.publish([run], checkout)


def test_weights_that_do_not_give_the_scores_are_not_published(run, checkout):
    def better(scores):
        scores["accuracy"] += 0.01

    change(run / "metrics.json", better)
    before = sorted(checkout.rglob("*"))
    with pytest.raises(
        publish_rules.PublishError, match="do not give its scores"
    ):
        publication.publish([run], checkout)
    assert sorted(checkout.rglob("*")) == before


def test_default_names_equal_the_names_of_the_recipes():
    for changes, name in (
        ([], "wrn_16_4_cifar10"),
        (["keep_prob=0.9"], "wrn_16_4_cifar10_dropblock"),
        (["model=WRN-22-2-B(3,1,3)"], "wrn_22_2_b313_cifar10"),
        (
            ["model=ResNet-18-1.5", "dataset=imagenette/160px-v2"],
            "resnet_18_1p5_imagenette",
        ),
        (
            ["survival_prob=0.5", "label_smoothing=0.1"],
            "wrn_16_4_cifar10_stochastic_depth_label_smoothing",
        ),
    ):
        assert model_names.usual_name(Recipe().override(changes)) == name


def test_names_tell_tasks_data_and_methods_on_the_head_apart(tmp_path):
    masks = f"dataset=masks:{tmp_path}/CamVid"
    head = ["task=segmentation", "model=ResNet-18-0.5"]
    for changes, name in (
        ([*head, masks], "fcn_resnet_18_0p5_camvid"),
        ([*head, f"{masks}/"], "fcn_resnet_18_0p5_camvid"),
        (
            [*head, masks, "head_keep_prob=0.9"],
            "fcn_resnet_18_0p5_camvid_head_dropblock",
        ),
        (
            [*head, masks, "head_keep_prob=0.9", "keep_prob=0.9"],
            "fcn_resnet_18_0p5_camvid_dropblock_head_dropblock",
        ),
        (
            [*head, masks, "head=deeplab"],
            "deeplab_resnet_18_0p5_camvid",
        ),
        ([*head, "dataset=shapes"], "fcn_resnet_18_0p5_shapes"),
        (
            ["task=detection", "model=ResNet-50", "dataset=shapes"],
            "retinanet_resnet_50_shapes",
        ),
        (
            ["task=detection", "model=ResNet-50", "dataset=coco:/data/coco"],
            "retinanet_resnet_50_coco",
        ),
        (["dataset=cifar10:3.0.2"], "wrn_16_4_cifar10"),
        ([f"dataset=folder:{tmp_path}/Flowers.2"], "wrn_16_4_flowers_2"),
    ):
        assert model_names.usual_name(Recipe().override(changes)) == name


def test_recipes_lose_the_paths_of_this_machine(tmp_path):
    weights_file = tmp_path / "start.weights.h5"
    weights_file.touch()
    for kind, task in (
        ("masks:", "segmentation"),
        ("coco:", "detection"),
        ("folder:", "classification"),
    ):
        recipe = Recipe().override(
            [
                f"task={task}",
                f"dataset={kind}{tmp_path}/Some/",
                f"data_dir={tmp_path}",
                f"initial_weights={weights_file}",
            ]
        )
        text = model_names.portable(recipe).to_toml()
        assert str(tmp_path) not in text
        assert f'dataset = "{kind}Some"' in text
        assert 'initial_weights = "start.weights.h5"' in text
        weights_file.unlink(missing_ok=True)  # the other recipes name it too
    for changes in (
        ["dataset=imagenette/160px-v2:1.0.0"],
        ["initial_weights=hf://owner/name@v1"],
    ):
        recipe = Recipe().override(changes)
        assert model_names.portable(recipe) == recipe


def test_hardware_is_described_in_plain_words():
    training = {"devices": ["cpu:0"], "cpus": 2, "machine": "Linux x86_64"}
    assert pages.hardware(training) == "CPU, 2 cores (Linux x86_64)"
    training["devices"] = ["NVIDIA H200"]
    assert pages.hardware(training) == "NVIDIA H200 (Linux x86_64)"


@pytest.mark.slow
def test_the_command_publishes_or_prints_an_error(npz, tmp_path, checkout):
    root = pathlib.Path(__file__).parents[1]
    run = tmp_path / "run"
    trainer.fit(small(npz), run)
    change(run / "run.json", commit(COMMIT))

    def publish(*arguments):
        return subprocess.run(
            [
                sys.executable,
                root / "tools" / "publish.py",
                f"--checkout={checkout}",
                *arguments,
            ],
            capture_output=True,
            text=True,
        )

    done = publish(f"--run={run}", f"--name={NAME}")
    assert f"Card: {checkout / 'models' / NAME / 'README.md'}" in done.stdout
    evaluated = subprocess.run(
        [
            sys.executable,
            root / "training" / "evaluate.py",
            f"--model={checkout / 'models' / NAME}",
        ],
        cwd=pathlib.Path(npz).parent,  # a card must not contain other folders
        capture_output=True,
        text=True,
    )
    scores = json.loads((run / "metrics.json").read_text())
    assert json.loads(evaluated.stdout) == pytest.approx(scores, abs=1e-4), (
        evaluated.stderr
    )
    again = publish(f"--run={run}")
    assert again.returncode == 2 and "Traceback" not in again.stderr
    assert "error: models/wrn_10_1_quadrants" in again.stderr
    shutil.rmtree(checkout / "models" / NAME)
    assert publish("--refresh").returncode == 0
    assert registry.cards() == {}


def test_the_digest_of_test_images_depends_on_every_label():
    images = np.zeros((2, 4, 4, 1), "uint8")

    def digest(labels):
        arrays = {"test": (images, np.array(labels))}
        return card_metrics.test_digest(data.dataset.ArrayDataset(arrays))

    expected = hashlib.sha256(images)
    expected.update(np.array([0, 1], "<i8"))
    assert digest([0, 1]) == expected.hexdigest()
    assert digest([0, 1]) != digest([0, 2])
    assert digest([0.25, 0.5]) != digest([0.25, 0.75])
