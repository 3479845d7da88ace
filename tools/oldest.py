"""Print pip constraints for the oldest versions that pyproject.toml allows.

    python tools/oldest.py > constraints.txt
    pip install --constraint=constraints.txt '.[tensorflow-cpu]'

Each lower bound becomes an exact version, `keras>=3.12` for example
`keras==3.12`. A package without a bound is left to pip, which takes the newest
version that fits the others. Needs Python alone, because it runs in an
environment that is still empty.
"""

import pathlib
import re
import tomllib

PYPROJECT = pathlib.Path(__file__).resolve().parents[1] / "pyproject.toml"


def constraints(requirements):
    """Exact versions for those requirements that have a lower bound."""
    found = {}
    for requirement in requirements:
        # A name, perhaps extras in brackets, and the bound.
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
