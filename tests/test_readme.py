"""The code in the README runs without changes."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.tensorflow_only
def test_python_blocks_run_in_order_in_any_folder(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "wrn_16_1_cifar10_dropblock"):
        (
            tmp_path / name
        ).mkdir()  # must not hide the data set or model of this name
    text = README.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 5
    exec("".join(blocks), {})  # noqa: S102
    assert capsys.readouterr().out == "[0.95, 0.9]\n"


def test_paths_that_it_names_exist():
    text = README.read_text("utf-8")
    paths = re.findall(r"(?:training|docs|keras_dropblock)/[\w/.]+\.\w+", text)
    assert len(paths) >= 4
    for path in paths:
        assert (README.parent / path).exists(), path
