"""Plots are written completely, with the right panels."""

import numpy as np
import pytest

from keras_dropblock import data, files, models
from keras_dropblock.analysis import feature_maps
from keras_dropblock.report import curves
from keras_dropblock.tasks import Classification

pytest.importorskip("matplotlib")
pytest.importorskip("optuna")
from grid_tables import grid_table
from keras_dropblock.search import heat_map
from keras_dropblock.search.space import points

HEAD = "epoch,accuracy,learning_rate,loss,test_accuracy,test_loss"


def picture(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize("keep_prob", [True, False])
def test_training_curves_have_a_panel_for_each_quantity(tmp_path, keep_prob):
    lines = [HEAD + ",keep_prob" * keep_prob]
    for epoch in range(3):
        lines.append(
            f"{epoch},0.5,0.1,2.0,{epoch / 2},1.5" + ",0.9" * keep_prob
        )
    (tmp_path / "history.csv").write_text("\n".join(lines))
    curves.draw(
        tmp_path / "history.csv",
        Classification.metrics,
        tmp_path / "curves.png",
    )
    # 3.4 inches per panel at 120 dots per inch
    width = picture(tmp_path / "curves.png").shape[1]
    assert width == 408 * (3 + keep_prob)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_curves_say_which_split_they_show(tmp_path, monkeypatch, split):
    figures = []
    monkeypatch.setattr(
        files, "write_figure", lambda path, figure: figures.append(figure)
    )
    path = tmp_path / "history.csv"
    path.write_text(
        HEAD.replace("test", split)
        + "\n0,0.5,0.1,2.0,0.25,1.5\n1,0.75,0.1,1.0,0.5,1.25\n"
    )
    curves.draw(path, Classification.metrics, tmp_path / "curves.png")
    loss, error, _ = figures[0].axes
    assert [axes.get_title() for axes in (loss, error)] == ["loss", "error, %"]
    for axes, expected in (
        (loss, {"train": [2.0, 1.0], split: [1.5, 1.25]}),
        (error, {"train": [50, 25], split: [75, 50]}),
    ):
        drawn = {
            line.get_label(): line.get_ydata().tolist() for line in axes.lines
        }
        assert drawn == expected


def test_masks_are_drawn_on_feature_maps_of_real_images(tmp_path):
    images = data.load("digits").arrays["test"][0][:2]
    model = models.WRN(10, 1, input_shape=(32, 32, 1))
    feature_maps.dropblock_masks(
        model,
        images,
        tmp_path / "masks.png",
        normalize=data.Preprocessing((32, 32), (77.9,), (95.9,)).normalize,
    )
    image = picture(tmp_path / "masks.png")
    assert image.shape[1] == 1152 and image.std() > 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["masks.png"]
    assert np.isfinite(image).all()


def table_of(grid, seeds=2, failed=()):
    """A table in which point i has the accuracies i % and i + 2 %."""
    scores = {
        point: [
            {
                "accuracy": a / 100,
                "top5": 1.0,
                "nll": 1.0,
                "ece": 0.0,
                "parameters": 1,
                "seconds": None,
            }
            for a in (i, i + 2)[: seeds - (point in failed)]
        ]
        for i, point in enumerate(points(grid))
    }
    return grid_table(
        grid, seeds, Classification.metrics, scores, dict.fromkeys(failed, 1)
    )


@pytest.fixture
def drawn(monkeypatch):
    """A function that draws a heat map and returns its panels."""
    figures = []
    monkeypatch.setattr(
        files, "write_figure", lambda path, figure: figures.append(figure)
    )

    def draw(grid, table):
        heat_map.draw(table, grid, "map.png", "WRN-10-1 on digits")
        *panels, _ = figures.pop().axes  # the last is the color bar
        return [axes for axes in panels if axes.axison]

    return draw


def cells(axes):
    """Text of each cell by the labels of its column and row."""
    columns = [label.get_text() for label in axes.get_xticklabels()]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    return {
        (*columns[int(x) : int(x) + 1], *rows[int(y) : int(y) + 1]): (
            text.get_text()
        )
        for text in axes.texts
        for x, y in [text.get_position()]
    }


def test_each_cell_of_a_heat_map_is_at_its_values(drawn):
    grid = {
        "block_size": (1, 3),
        "schedule": ("linear",),
        "keep_prob": (0.8, 0.9, 1.0),
        "dropblock_groups": ((3,), (2, 3)),
    }
    left, right = drawn(grid, table_of(grid))
    assert [axes.get_title() for axes in (left, right)] == [
        "dropblock_groups [3]",
        "dropblock_groups [2, 3]",
    ]
    assert (left.get_xlabel(), left.get_ylabel()) == ("block_size", "keep_prob")
    # Point i (groups vary fastest) has the mean i + 1 and the std sqrt(2) %.
    assert cells(left) == {
        ("1", "0.8"): "1.00\n± 1.41",
        ("1", "0.9"): "3.00\n± 1.41",
        ("1", "1.0"): "5.00\n± 1.41",
        ("3", "0.8"): "7.00\n± 1.41",
        ("3", "0.9"): "9.00\n± 1.41",
        ("3", "1.0"): "11.00\n± 1.41",
    }
    means = left.collections[0].get_array()
    assert np.allclose(means, [[1, 7], [3, 9], [5, 11]])
    # The outline is around the highest mean, block_size 3 and keep_prob 1.
    assert not left.lines
    (outline,) = right.lines
    assert outline.get_xydata().mean(0) == pytest.approx([1.4, 2.4])


def test_a_grid_of_one_key_is_a_row_that_shows_missing_runs(drawn):
    grid = {"block_size": (1, 3, 5)}
    table = table_of(grid, failed=[(3,)])
    table.rows[0].update(n=0, accuracy_mean=None, accuracy_std=None)
    (axes,) = drawn(grid, table)
    assert cells(axes) == {
        ("1",): "–",
        ("3",): "1.00\n1 failed",
        ("5",): "3.00\n± 1.41",
    }
    assert axes.collections[0].get_array().mask.tolist() == [
        [True, False, False]
    ]


@pytest.mark.parametrize("values", [(1,), (1, 3), (1, 3, 5, 7, 9)])
def test_heat_maps_with_any_number_of_panels_are_written(tmp_path, values):
    grid = {"keep_prob": (0.8, 0.9), "cutout": (0, 8), "block_size": values}
    heat_map.draw(table_of(grid, seeds=1), grid, tmp_path / "map.png", "digits")
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]
    assert picture(tmp_path / "map.png").std() > 0.1


def test_a_grid_without_scores_is_drawn(drawn):
    grid = {"block_size": (1, 3)}
    table = grid_table(grid, 1, Classification.metrics, {}, {(1,): 1})
    (axes,) = drawn(grid, table)
    assert cells(axes) == {("1",): "–\n1 failed", ("3",): "–"}
