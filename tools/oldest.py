"""Print pip constraints for the oldest versions that pyproject.toml allows.

    python tools/oldest.py > constraints.txt
    pip install --constraint=constraints.txt '.[tensorflow-cpu]'

Each lower bound becomes an exact version: `keras>=3.12` becomes `keras==3.12`.
Packages without a lower bound are not constrained, so pip installs the newest
compatible version. The script uses only the standard library, because it runs
before anything is installed.
"""

import pathlib
import re
import tomllib

PYPROJECT = pathlib.Path(__file__).resolve().parents[1] / "pyproject.toml"


def constraints(requirements):
    """Exact versions for all requirements with a lower bound."""
    found = {}
    for requirement in requirements:
        # A requirement is a name, optional extras in brackets, and bounds.
        name = re.match(r"[\w.-]+", requirement)[0]
        bound = re.search(r">=\s*([\w.]+)", requirement)
        if bound:
            found[name] = f"{name}=={bound[1]}"
    return sorted(found.values())


def main():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = project["dependencies"] + sum(extras, [])
    print("\n".join(constraints(requirements)))


if __name__ == "__main__":
    main()
