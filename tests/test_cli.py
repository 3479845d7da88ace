"""The commands, run as in a shell."""

import json
import logging
import os
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
            script("train"),
            f"--workdir={workdir}",
            "--set",
            f"dataset={npz}",
            "--set",
            "model=WRN-10-1",
            "--set",
            "epochs=1",
            "--set",
            "batch_size=50",
        ],
        capture_output=True,
        text=True,
    )
    assert train.returncode == 0, train.stderr
    assert "on 43 images after 1 epochs" in train.stdout
    evaluate = subprocess.run(
        [script("evaluate"), f"--workdir={workdir}", "--draw"],
        capture_output=True,
        text=True,
    )
    assert json.loads(evaluate.stdout)["images"] == 43
    for name in ("confusion.png", "cam.png"):
        assert (tmp_path / "run" / name).is_file(), evaluate.stderr
    out = tmp_path / "saved_models" / "quadrants"
    export = subprocess.run(
        [
            sys.executable,
            ROOT / "training" / "export.py",
            f"--workdir={workdir}",
            f"--out={out}",
        ],
        capture_output=True,
        text=True,
    )
    assert f"Exported: {out / '1'}" in export.stdout, export.stderr
    assert (out / "1" / "saved_model.pb").exists()


def test_the_list_names_networks_sizes_and_recipes():
    from keras_dropblock.cli import list as command

    (row,) = [
        line
        for line in command.table(RECIPES).splitlines()
        if line.startswith("| WRN-16-4 |")
    ]
    assert row.startswith("| WRN-16-4 | 32 x 32 | 2,748,890 | 0.393 G | wrn_")
    assert "wrn_16_4_cifar100, wrn_16_4_cifar100_dropout, " in row


def module(*arguments, **options):
    """Run `python -m keras_dropblock` and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "keras_dropblock", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def test_the_package_runs_every_command_by_its_name(tmp_path):
    listed = module("list")
    assert listed.returncode == 0 and "WRN-28-10" in listed.stdout
    assert module("--help").stdout.startswith("Usage: python -m keras_drop")
    result = subprocess.run(
        [sys.executable, "-m", "keras_dropblock.cli.train"],
        env={k: v for k, v in os.environ.items() if "TF_CPP" not in k},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    hint = "error: Run `python -m keras_dropblock train` instead.\n"
    assert result.stderr == hint
    for wrong in (("trian",),):
        result = module(*wrong)
        assert result.returncode == 1 and "train" in result.stderr
        assert "Traceback" not in result.stderr


def test_commands_print_only_their_own_output(tmp_path):
    from PIL import Image

    image = tmp_path / "gray.png"
    Image.new("RGB", (40, 30), (120, 120, 120)).save(image)
    (tmp_path / "notes.txt").write_text("no image")
    quiet = {k: v for k, v in os.environ.items() if "TF_CPP" not in k}
    result = module(
        "predict",
        "--model=wrn_16_1_cifar10_dropblock",
        "--top=2",
        tmp_path,
        env=quiet,
    )
    assert result.stderr == ""
    first, second = (line.split("\t") for line in result.stdout.splitlines())
    assert first[0] == second[0] == str(image)
    assert float(first[2]) > float(second[2]) > 0


def test_an_image_that_cannot_be_read_gives_a_one_line_error(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    result = module(
        "predict", "--model=wrn_16_1_cifar10_dropblock", tmp_path / "text.png"
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "text.png must be a complete JPEG or PNG file" in result.stderr


def test_messages_of_this_package_are_plain_lines():
    from keras_dropblock import cli

    def line(name):
        record = logging.LogRecord(
            name,
            logging.WARNING,
            "x.py",
            1,
            "the license is %s.",
            ("MIT",),
            None,
        )
        return cli.PlainMessages().format(record)

    assert line("keras_dropblock.hub.contents") == "the license is MIT."
    assert line("absl").endswith("] the license is MIT.")


def test_a_folder_without_images_is_an_error(tmp_path):
    from keras_dropblock.cli import predict
    from keras_dropblock.errors import DataError

    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.jpg").touch()
    with pytest.raises(DataError, match="must have images.*inside it do not"):
        predict._files([str(tmp_path)])


@pytest.mark.parametrize(
    "workdir, model, message",
    [
        (None, None, "Exactly one of"),
        ("a", "b", "Exactly one of"),
        (None, "nothing_like_it", "Received: 'nothing_like_it'"),
        ("nothing_like_it", None, "is not a work directory"),
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
def test_the_scripts_of_a_checkout_run(door):
    result = subprocess.run(
        [sys.executable, ROOT / "training" / f"{door}.py", "--help"],
        capture_output=True,
        text=True,
    )
    assert "--workdir" in result.stdout and "Traceback" not in result.stderr
    text = " ".join(result.stdout.split())
    assert ("143 stopped by SIGTERM" in text) == (door == "train")


def test_a_wrong_command_gives_a_one_line_error(tmp_path):
    for setting, message in (
        ("epoch=1", "--set: unknown key `epoch`. Did you mean `epochs`?"),
        ("dataset=nowhere.npz", "Cannot read `dataset` nowhere.npz"),
        # The whole recipe is checked before its data are opened.
        ("model=WRN-29-10", "`depth` must be 6n + 4 for B(3,3)"),
    ):
        result = subprocess.run(
            [
                script("train"),
                f"--workdir={tmp_path / 'run'}",
                "--set",
                setting,
            ],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
