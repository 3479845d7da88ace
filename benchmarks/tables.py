"""Write a results file, by default this machine's, into docs/benchmarks.md.

python benchmarks/tables.py [--results=FILE]
"""

import json
import os
import pathlib

from absl import app

import between_epochs
import detection
import efficiency
import inference
import input_pipeline
import layer
import records
import serving
import train_step
from keras_dropblock import files

BENCHMARKS = {
    module.__name__: module
    for module in (
        layer,
        train_step,
        efficiency,
        input_pipeline,
        between_epochs,
        inference,
        detection,
        serving,
    )
}
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"


def text(benchmark, result, path):
    """The page's section on a benchmark, between its marks.

    Args:
        benchmark: name of the benchmark.
        result: its entry in the results file.
        path: absolute path of the results file.
    """
    packages = result["versions"].items()
    versions = ", ".join(f"{name} {version}" for name, version in packages)
    rounds = [row["rounds"] for row in result["rows"]]
    count = " to ".join(map(str, sorted({min(rounds), max(rounds)})))
    chart = ""
    if benchmark == "efficiency":
        link = _link(efficiency.chart(path))
        chart = f"![Time of a training step by network]({link})\n\n"
    return (
        f"{chart}{BENCHMARKS[benchmark].show(result['rows'])}\n"
        f"*[{path.stem}]({_link(path)}): {result['processor']}, "
        f"{result['memory_gb']} GB, {result['date']}; {versions}; commit "
        f"{result.get('commit') or 'unknown'}. Medians of {count} rounds, "
        "measured in turn.*\n"
    )


def _link(path):
    return pathlib.Path(os.path.relpath(path, PAGE.parent)).as_posix()


def main(_):
    path = records.results_path(records.machine("cpu")).absolute()
    results = json.loads(path.read_text("utf-8"))
    for benchmark, result in results.items():
        if benchmark in BENCHMARKS:
            files.write_between(
                PAGE,
                f"benchmarks:{benchmark}",
                text(benchmark, result, path),
            )


if __name__ == "__main__":
    app.run(main)
