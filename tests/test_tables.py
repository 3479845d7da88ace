"""Tables of a search, with numbers that can be checked by hand."""

import csv
import io

import pytest

from keras_dropblock.tasks import Classification

pytest.importorskip("optuna")
from grid_tables import grid_table

METRICS = [m for m in Classification.metrics if m.name in ("accuracy", "nll")]
GRID = {"keep_prob": (0.8, 0.9), "dropblock_groups": ((3,), (2, 3))}


def runs(*accuracies, seconds=7.5):
    return [
        {
            "accuracy": accuracy,
            "nll": 2 * accuracy,
            "parameters": 77_850,
            "seconds": seconds,
        }
        for accuracy in accuracies
    ]


def table():
    return grid_table(
        GRID,
        2,
        METRICS,
        {
            (0.8, (3,)): runs(0.5, 0.75),
            (0.8, (2, 3)): runs(0.875, seconds=None),
            (0.9, (3,)): runs(1.0),
        },
        {(0.9, (3,)): 1},
    )


def test_every_point_has_a_row_even_without_runs():
    empty = grid_table(GRID, 3, METRICS, {}, {})
    assert [(r["keep_prob"], r["dropblock_groups"]) for r in empty.rows] == [
        (0.8, (3,)),
        (0.8, (2, 3)),
        (0.9, (3,)),
        (0.9, (2, 3)),
    ]
    assert {row["n"] for row in empty.rows} == {0}
    assert empty.best() == []


def test_the_csv_by_hand():
    # 0.5 and 0.75: 0.625, and sqrt(2 * 0.125^2 / (2 - 1)) = 0.125 * sqrt(2)
    rows = [*csv.DictReader(io.StringIO(table().csv()))]
    assert [*rows[0]] == [
        "keep_prob",
        "dropblock_groups",
        "n",
        "failed",
        "accuracy_mean",
        "accuracy_std",
        "accuracy_se",
        "nll_mean",
        "nll_std",
        "nll_se",
        "parameters",
        "seconds",
    ]
    assert float(rows[0]["accuracy_std"]) == pytest.approx(0.125 * 2**0.5)
    assert float(rows[0]["nll_std"]) == pytest.approx(0.25 * 2**0.5)
    # The standard error of two runs is the standard deviation / sqrt(2).
    assert float(rows[0].pop("accuracy_se")) == pytest.approx(0.125)
    assert float(rows[0].pop("nll_se")) == pytest.approx(0.25)
    assert rows[0] | {"accuracy_std": "", "nll_std": ""} == {
        "keep_prob": "0.8",
        "dropblock_groups": "[3]",
        "n": "2",
        "failed": "0",
        "accuracy_mean": "0.625",
        "accuracy_std": "",
        "nll_mean": "1.25",
        "nll_std": "",
        "parameters": "77850",
        "seconds": "7.5",
    }
    # One run has no std, and an interrupted run has no time.
    assert rows[1]["dropblock_groups"] == "[2, 3]"
    assert rows[1]["accuracy_mean"] == "0.875"
    assert rows[1]["accuracy_std"] == rows[1]["seconds"] == ""
    assert (rows[2]["n"], rows[2]["failed"]) == ("1", "1")
    assert [*rows[3].values()][2:] == ["0", "0", *[""] * 8]


def test_the_markdown_by_hand():
    head, rule, *lines = table().markdown().splitlines()
    assert head == (
        "| keep_prob | dropblock_groups | n | accuracy, % | NLL, nats "
        "| parameters | seconds |"
    )
    assert rule == "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines == [
        "| 0.8 | [3] | 2 | **62.50 ± 17.68** | 1.2500 ± 0.3536 | 77,850 | 8 |",
        "| 0.8 | [2, 3] | 1 | 87.50 | 1.7500 | 77,850 | – |",
        "| 0.9 | [3] | 1 (1 failed) | 100.00 | 2.0000 | 77,850 | 8 |",
        "| 0.9 | [2, 3] | 0 | – | – | – | – |",
    ]


def test_the_best_points_have_all_seeds_and_ties_are_kept():
    assert table().best() == [table().rows[0]]
    grid = {"block_size": (1, 3, 5)}
    tied = grid_table(
        grid,
        2,
        METRICS,
        {(1,): runs(0.5, 0.75), (3,): runs(0.75, 0.5), (5,): runs(0.5, 0.5)},
        {},
    )
    assert [row["block_size"] for row in tied.best()] == [1, 3]


def test_the_top_rows_are_the_best_ones_first():
    assert [row["accuracy_mean"] for row in table().top(2).rows] == [1, 0.875]
    assert len(table().top(9).rows) == 3  # without the point that has no run


def test_the_lowest_is_best_where_lower_is_better():
    nll = METRICS[1:]
    table = grid_table(
        {"block_size": (1, 3)}, 1, nll, {(1,): runs(0.5), (3,): runs(0.25)}, {}
    )
    assert [row["block_size"] for row in table.best()] == [3]
