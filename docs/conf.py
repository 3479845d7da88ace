"""The site: `make docs` builds it in build/docs.

The sources are Markdown pages in docs/, notebooks/ and models/. The source
directory of Sphinx is the checkout, so that links between these folders are
the same here and in an editor.
"""

import importlib.util
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
# Notebooks run in processes that inherit these variables.
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_dropblock  # noqa: E402

project = "keras_dropblock"
copyright = "the authors of keras_dropblock. Apache-2.0"
release = version = keras_dropblock.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated",  # tools/generated.py: the parts that are made from code
]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/**", "models/**", "CHANGELOG.md"]
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "runs",
    "saved_models",
    "models/README.md",  # docs/zoo.md shows this table
    "**/.ipynb_checkpoints",
]
highlight_language = "none"

html_theme = "furo"
html_title = f"keras_dropblock {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_extra_path = ["root"]  # index.html, which leads to docs/index.html
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

tfds_data = pathlib.Path(
    os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
).expanduser()
# Notebooks without outputs are executed; outputs are cached in build/.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs_notebooks")
nb_execution_excludepatterns = []
if not (tfds_data / "cifar10").is_dir():
    print(f"No CIFAR-10 in {tfds_data}: what_dropblock_sees is not executed.")
    nb_execution_excludepatterns.append("**/what_dropblock_sees.md")
# KerasHub has an environment of its own: see `make test-vision`. The notebook
# about detection is executed there, by a kernel with the name `vision`.
vision = pathlib.Path(
    os.environ.get("VISION_PYTHON", ROOT / ".venv_vision" / "bin" / "python")
)
if not (vision.exists() and (tfds_data / "penn_fudan_ped").is_dir()):
    print(
        f"No {vision}, or no penn_fudan_ped in {tfds_data}: the notebook "
        "detection is not executed."
    )
    nb_execution_excludepatterns.append("**/notebooks/detection.md")
else:
    kernel = ROOT / "build" / "jupyter" / "kernels" / "vision" / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    command = [f"{vision}", "-m", "ipykernel_launcher", "-f"]
    kernel.write_text(
        json.dumps(
            {
                "argv": [*command, "{connection_file}"],
                "display_name": "Python 3 with KerasHub",
                "language": "python",
            }
        )
    )
    os.environ["JUPYTER_PATH"] = str(kernel.parents[2])
nb_execution_timeout = 600  # seconds for a cell, also on a busy machine
nb_execution_in_temp = True
nb_execution_raise_on_error = True
if nb_execution_excludepatterns:
    # The language of a notebook is known only after its execution.
    suppress_warnings = ["myst-nb.lexer"]
nb_output_stderr = "remove"

default_role = "code"  # docstrings write code in single backticks
autodoc_inherit_docstrings = False
# The environment of the site has no KerasHub. The docstrings of the networks
# that need it can be read with a mock in its place.
if importlib.util.find_spec("keras_hub") is None:
    autodoc_mock_imports = ["keras_hub"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    "Input shape",
    "Output shape",
    "Example",
    "Reference",
]
