"""The commands in docs/ run as they are written, in an empty folder."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import doc_blocks


def write_pictures(folder, count, brightness):
    """Write JPEG files of 48 x 64 pixels: 1.jpg, 2.jpg, ..."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(brightness)
    for i in range(count):
        image = rng.integers(0, 100, (48, 64, 3)) + brightness
        keras.utils.save_img(folder / f"{i + 1}.jpg", image, scale=False)


@pytest.fixture
def folder(tmp_path):
    """A folder with what the pages say is the reader's own."""
    write_pictures(tmp_path / "pets" / "cat", 12, brightness=0)
    write_pictures(tmp_path / "pets" / "dog", 12, brightness=150)
    write_pictures(tmp_path / "photographs", 2, brightness=100)
    sample = doc_blocks.ROOT / "docs" / "demo" / "samples" / "cat.png"
    shutil.copy(sample, tmp_path / "cat.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", doc_blocks.COMMAND_PAGES)
def test_commands_of_a_page_run_in_order(name, folder):
    pytest.importorskip("jinja2")  # for reports
    blocks = doc_blocks.blocks(doc_blocks.ROOT / name, "commands")
    code = "".join(
        block.code
        for block in blocks
        if block.reason is None and not doc_blocks.is_run_by_ci(block.code)
    )
    assert "keras-dropblock-" in code
    programs = pathlib.Path(sys.executable).parent
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", code],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for written in re.findall(r"--(?:out|workdir)=(\S+)", code):
        assert (folder / written).exists(), written
