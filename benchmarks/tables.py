"""Write the README's tables and the bar chart from a results file.

python benchmarks/tables.py [--results=FILE]
"""

import json
import pathlib

from absl import app

import efficiency
import inference
import input_pipeline
import layer
import measuring
import train_step
from keras_dropblock import files

BENCHMARKS = {
    module.__name__: module
    for module in (layer, train_step, efficiency, input_pipeline, inference)
}
# The machine whose figures the README shows.
MACHINE = "2-core-x86_64-cpu"
README = pathlib.Path(__file__).parents[1] / "README.md"
CHART = README.parent / "docs" / "efficiency.png"


def text(benchmark, result):
    """What stands in the README between the marks of a benchmark."""
    versions = ", ".join(
        f"{package} {version}"
        for package, version in sorted(result["versions"].items())
    )
    rounds = [row["rounds"] for row in result["rows"]]
    count = f"{min(rounds)} to {max(rounds)}"
    quick = "A quick run, to be replaced. " if result["quick"] else ""
    return (
        f"{BENCHMARKS[benchmark].show(result['rows'])}\n"
        f"*{quick}{result['processor']}, {result['memory_gb']} GB, "
        f"{result['date']}; Python {result['python']}, {versions}. Medians of "
        f"{count} rounds, in turn.*\n"
    )


def main(_):
    path = measuring.results_path(MACHINE)
    results = json.loads(path.read_text("utf-8"))
    for benchmark, result in results.items():
        files.write_between(
            README, f"benchmarks:{benchmark}", text(benchmark, result)
        )
    if "efficiency" in results:
        efficiency.draw(results["efficiency"]["rows"], CHART)


if __name__ == "__main__":
    app.run(main)
