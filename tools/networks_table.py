"""Update docs/zoo.md's table of networks: python tools/networks_table.py"""

import pathlib

from keras_dropblock import files
from keras_dropblock.cli import list as command

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "zoo.md"

if __name__ == "__main__":
    table = command.table(ROOT / "training" / "recipes")
    files.write_between(PAGE, "networks", table)
