"""The tables in docs/benchmarks.md agree with the committed results."""

import json
import re
import sys
import types

import numpy as np
import pytest
from absl.testing import flagsaver

import detection
import grid_curves
import measurement
import networks
import records
import search_cost
import serving
import tables
from keras_dropblock import DropBlock2D

PAGE = tables.PAGE.read_text("utf-8")
MS = {"identity": 1.0, "Dropout": 10.0, "SpatialDropout2D": 4.0}
MS |= {"textbook": 15.0, "ours": 5.0}


def sample_rows():
    """One or more rows for each benchmark, with round numbers."""
    network = {"first_step_s": 5.0, "import_s": 2.0, "rounds": 9}
    network |= {"before_mb": 700, "scheduler_ms": 1.0}
    steps = {
        "plain PyTorch": (640, 800),
        "plain PyTorch, channels_last": (800, 800),
        "TF graph": (500, 1000),
        "TF graph, DropBlock": (520, 1050),
    }
    return {
        "layer": [
            {
                "mode": "TF graph",
                "dtype": "float32",
                "rounds": 9,
                "shape": [32, 8, 8, 64],
                "ms": MS,
                "skipped": {"KerasCV": "TypeError: int()"},
            }
        ],
        "train_step": [
            {"network": name, "ms": ms, "peak_mb": mb, **network}
            | {"width": 4, "dtype": "float32"}
            for name, (ms, mb) in steps.items()
        ],
        "efficiency": [
            {"network": name, "ms": ms, "paper_ms": paper, **network}
            | {"ready_s": 3.0}
            for name, ms, paper in (
                ("WRN-40-4", 100.0, 68),
                ("PreActResNet-1001", 800.0, 512),
            )
        ],
        "input_pipeline": [
            {"images": "32 x 32", "rounds": 3}
            | {"images_per_second": {"ours": 90_000, "tf.data map": 9_000}}
        ],
        "between_epochs": [
            {"data": "PyDataset", "rounds": 3, "seconds": [0.01, 1.2, 0.02]}
        ],
        "inference": [
            {
                "batch": 64,
                "rounds": 3,
                "ms": {"Keras": 64.0, "SavedModel": 32.0},
            }
            | {"bytes": {"Keras": 11e6, "SavedModel": 22e6}}
        ],
    }


def lines(benchmark):
    """The cells of the table for the sample rows."""
    text = tables.BENCHMARKS[benchmark].show(sample_rows()[benchmark])
    rows = [row for row in text.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_layers_are_compared_with_dropout():
    head, rule, row = lines("layer")
    assert row == [
        "TF graph",
        "float32",
        "32 x 8 x 8 x 64",
        "10.0",
        "0.100",
        "0.400",
        "-",
        "1.500",
        "0.500",
        "3.0",
    ]
    assert rule[0].endswith("-") and rule[3].endswith(":")
    text = tables.BENCHMARKS["layer"].show(sample_rows()["layer"])
    assert "- TF graph, no KerasCV: `TypeError: int()`" in text


def test_steps_are_compared_with_the_better_plain_pytorch():
    *networks, dropblock = lines("train_step")
    assert networks[2][:2] == ["WRN-16-4", "float32"]
    rows = {row[2]: row[3:] for row in networks}
    assert rows["TF graph"][:3] == ["500", "128.0", "1.28"]
    assert rows["plain PyTorch, channels_last"][2] == "0.80"
    assert dropblock[:2] == ["WRN-16-4", "float32"]
    assert dropblock[2:] == ["TF graph", "1.040", "1.050", "1.167", "0.20%"]


def test_networks_pipelines_and_formats_are_compared():
    assert lines("efficiency")[3][:5] == [
        "PreActResNet-1001",
        "800",
        "8.00",
        "512",
        "7.53",
    ]
    assert lines("input_pipeline")[3][3] == "10.00"
    assert lines("between_epochs")[2] == ["PyDataset", "3", "20", "1200", "1"]
    assert lines("inference")[3] == [
        "SavedModel",
        "64",
        "32.0",
        "2000",
        "0.50",
        "22.0",
    ]


def test_detectors_are_compared_with_that_of_keras_hub():
    row = {"mode": "training", "dtype": "float32", "side": 256, "batch": 4}
    ms = {"KerasHub": 800.0, "ours": 1000.0}
    row |= {"rounds": 3, "ms": ms, "skipped": {"KerasHub": "TypeError: x"}}
    text, reason = detection.show([row]).split("\n\n")
    assert reason == "- training, float32, no KerasHub: `TypeError: x`\n"
    last = [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]]
    assert last[2:] == ["4 x 256 x 256", "ours", "1000", "4.00", "0.80"]
    images, targets = detection.data(64, 2)
    assert images.shape == (2, 64, 64, 3)
    assert 0 <= targets["boxes"].min() <= targets["boxes"].max() <= 64


def test_results_of_other_benchmarks_are_kept(tmp_path, parsed_flags):
    path = tmp_path / "results.json"
    with flagsaver.flagsaver(results=str(path)):
        assert records.save("layer", [1], "cpu") == path
        records.save("inference", [2], "cpu")
    results = json.loads(path.read_text())
    assert results["layer"]["rows"] == [1]
    assert results["inference"]["rows"] == [2]
    assert {"processor", "memory_gb", "versions", "commit", "date"} <= set(
        results["layer"]
    )


def test_the_commit_is_that_of_the_beginning(monkeypatch):
    commits = iter(["before", "after"])
    monkeypatch.setattr(
        "keras_dropblock.runs.versions.commit", lambda *files: next(commits)
    )
    records.commit.cache_clear()
    try:
        assert records.commit() == "before"
        assert records.record()["commit"] == "before"
    finally:
        records.commit.cache_clear()


def test_a_client_that_fails_ends_the_measurement(monkeypatch):
    class Client:
        calls = 0

        def __init__(self, address):
            self.fails = address == "wrong"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def infer(self, name, given):
            Client.calls += 1
            if self.fails and Client.calls == 3:
                raise OSError("No route")

    class Input:
        def __init__(self, *_):
            pass

        def set_data_from_numpy(self, images):
            pass

    http = types.SimpleNamespace(InferenceServerClient=Client, InferInput=Input)
    monkeypatch.setitem(sys.modules, "tritonclient", types.ModuleType("t"))
    monkeypatch.setitem(sys.modules, "tritonclient.http", http)
    images = np.zeros((1, 2, 2, 3), "uint8")
    took, whole = serving.ask("right", images, clients=4, seconds=0.01)
    # Each client has one call that does not count.
    assert len(took) == Client.calls - 4 and whole >= 0.01
    Client.calls = 0
    with pytest.raises(RuntimeError, match="A client failed: No route"):
        serving.ask("wrong", images, clients=4, seconds=0.01)


def test_what_a_search_misses_is_paired_by_seed():
    # The gaps of the two seeds are 0.1 and 0.3.
    mean, error = search_cost.below([0.9, 0.5], [[0.75, 0.85], [0.2, 0.2]])
    assert (mean, error) == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize("key", ["recipe", "commit"])
def test_curves_of_another_recipe_are_not_used(
    tmp_path, monkeypatch, parsed_flags, key
):
    path = tmp_path / "search_cost.json"
    monkeypatch.setattr(grid_curves, "TABLE", path)
    monkeypatch.setattr(grid_curves, "curve", lambda *_: [0.5])
    monkeypatch.setattr(records, "record", lambda: {"commit": "0123"})
    curves = grid_curves.train_all(60)
    assert len(curves) == 24 and grid_curves.train_all(60) == curves
    table = json.loads(path.read_text())
    table[key] = "another"
    if key == "commit":  # nothing is left to train: the commit may differ
        path.write_text(json.dumps(table))
        assert grid_curves.train_all(60) == curves
        table["curves"].popitem()
    path.write_text(json.dumps(table))
    with pytest.raises(SystemExit, match=f"has another {key}. Delete it"):
        grid_curves.train_all(60)


def test_a_quick_run_is_not_saved(tmp_path, parsed_flags):
    path = tmp_path / "results.json"
    with flagsaver.flagsaver(results=str(path), quick=True):
        assert records.save("layer", [1]) is None
    assert not path.exists()


def test_functions_take_turns_in_random_order():
    calls = []
    times = measurement.interleave(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        seconds=1000,
        most_rounds=20,
    )
    assert calls[:2] == ["a", "b"]  # one call of each to warm up
    rounds = [tuple(calls[i : i + 2]) for i in range(2, len(calls), 2)]
    assert set(rounds) == {("a", "b"), ("b", "a")}
    assert list(map(len, times.values())) == [20, 20] and len(rounds) == 20


def test_there_are_at_least_three_rounds():
    times = measurement.interleave({"a": list}, seconds=0)
    assert len(times["a"]) == 3


def test_a_function_may_need_more_calls_before_the_first_round():
    calls = []
    measurement.interleave(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        seconds=0,
        before={"b": 5},
    )
    assert calls[:6] == ["a"] + ["b"] * 5 and len(calls) == 6 + 2 * 3


def test_only_a_peer_may_fail():
    def fail():
        raise TypeError("x")

    functions = {"ours": list, "peer": fail}
    runnable, skipped = measurement.runnable(functions, "peer")
    assert runnable == {"ours": list} and skipped == {"peer": "TypeError: x"}
    with pytest.raises(TypeError):
        measurement.runnable(functions, "ours")


def test_the_chart_is_next_to_the_results(tmp_path):
    path = tables.efficiency.chart(tmp_path / "one.json")
    tables.efficiency.draw(sample_rows()["efficiency"], path)
    assert path.parent == tmp_path and path.stat().st_size > 5_000


def test_networks_are_compiled_as_by_a_recipe():
    model = networks.compiled("WRN-10-1", keep_prob=0.9, block_size=7)
    assert model.optimizer.nesterov and model.optimizer.momentum == 0.9
    assert model.layers[1].kernel.regularizer.l2 == pytest.approx(5e-4 / 2)
    layers = model._flatten_layers()
    rates = [x.keep_prob for x in layers if isinstance(x, DropBlock2D)]
    assert rates == pytest.approx([0.975, 0.975, 0.9, 0.9])
    images, labels = networks.batch(4)
    assert images.shape == (4, 32, 32, 3) and labels.sum(1).tolist() == [1] * 4


def test_the_page_shows_committed_results():
    for benchmark in tables.BENCHMARKS:
        mark = f"benchmarks:{benchmark} -->\n"
        part = PAGE.split(f"<!-- {mark}\n")[1].split(f"\n<!-- /{mark}")[0]
        (path,) = re.findall(r"\((\.\./benchmarks/results/.*\.json)\)", part)
        path = tables.PAGE.parent / path
        result = json.loads(path.read_text("utf-8"))[benchmark]
        assert part == tables.text(benchmark, result, path)
        if benchmark == "efficiency":
            assert tables.efficiency.chart(path).exists()
