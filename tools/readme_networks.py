"""Update the README's table of networks: python tools/readme_networks.py"""

import pathlib

from keras_dropblock import files
from keras_dropblock.cli import list as command

ROOT = pathlib.Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    table = command.table(ROOT / "training" / "recipes")
    files.write_between(ROOT / "README.md", "networks", table)
