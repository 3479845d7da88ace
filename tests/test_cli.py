"""The commands, as a shell runs them."""

import json
import pathlib
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = ROOT / "training" / "recipes"


def script(name):
    return pathlib.Path(sys.executable).with_name(f"keras-dropblock-{name}")


def test_the_console_scripts_run(npz, tmp_path):
    workdir = str(tmp_path / "run")
    train = subprocess.run(
        [
            *(script("train"), f"--workdir={workdir}"),
            *("--set", f"dataset={npz}"),
            *("--set", "model=WRN-10-1", "--set", "epochs=1"),
            *("--set", "batch_size=50"),
        ],
        capture_output=True,
        text=True,
    )
    assert train.returncode == 0, train.stderr
    assert "of 43 images after 1 epochs" in train.stdout
    evaluate = subprocess.run(
        [script("evaluate"), f"--workdir={workdir}"],
        capture_output=True,
        text=True,
    )
    assert json.loads(evaluate.stdout)["images"] == 43
    out = tmp_path / "saved_models" / "quadrants"
    export = subprocess.run(
        [
            *(sys.executable, ROOT / "training" / "export.py"),
            *(f"--workdir={workdir}", f"--out={out}"),
        ],
        capture_output=True,
        text=True,
    )
    assert f"SavedModel: {out / '1'}" in export.stdout, export.stderr
    assert (out / "1" / "saved_model.pb").exists()


def test_the_list_names_networks_sizes_and_recipes(tmp_path):
    from absl.testing import flagsaver

    from keras_dropblock.analysis import networks
    from keras_dropblock.cli import list as command

    page = tmp_path / "page.md"
    page.write_text("<!-- networks -->\n<!-- /networks -->\n")
    few = {"WRN-16-4": networks.NETWORKS["WRN-16-4"]}
    with (
        pytest.MonkeyPatch.context() as patch,
        flagsaver.as_parsed(recipes=str(RECIPES), into=str(page)),
    ):
        patch.setattr(networks, "NETWORKS", few)
        command.list_networks()
    row = page.read_text().splitlines()[4]
    assert row.startswith("| WRN-16-4 | 32 x 32 | 2,748,890 | 0.393 G | wrn_")
    assert "wrn_16_4_cifar10_dropblock, wrn_16_4_cifar10_dropout" in row


@pytest.mark.parametrize(
    "workdir, model, message",
    [
        (None, None, "one of the two"),
        ("a", "b", "one of the two"),
        (None, "nothing_like_it", "Received: 'nothing_like_it'"),
        ("nothing_like_it", None, "is no work directory"),
    ],
)
def test_a_trained_model_is_a_run_or_a_published_one(
    workdir, model, message, monkeypatch
):
    from keras_dropblock.cli import trained

    for flag, value in (("WORKDIR", workdir), ("_MODEL", model)):
        monkeypatch.setattr(trained, flag, types.SimpleNamespace(value=value))
    with pytest.raises(ValueError, match=message):
        trained.load()


@pytest.mark.parametrize("door", ["train", "evaluate", "export"])
def test_the_doors_of_a_checkout_open(door):
    result = subprocess.run(
        [sys.executable, ROOT / "training" / f"{door}.py", "--help"],
        capture_output=True,
        text=True,
    )
    assert "--workdir" in result.stdout and "Traceback" not in result.stderr
    assert ("143 by SIGTERM" in result.stdout) == (door == "train")


def test_a_wrong_command_is_one_line_and_no_traceback(tmp_path):
    for setting, message in (
        ("epoch=1", "--set: unknown key `epoch`. Did you mean `epochs`?"),
        ("dataset=nowhere.npz", "Cannot read `dataset` nowhere.npz"),
    ):
        result = subprocess.run(
            [
                *(script("train"), f"--workdir={tmp_path / 'run'}"),
                *("--set", setting),
            ],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
