"""Pictures are written whole, with the panels they should have."""

import numpy as np
import pytest

from keras_dropblock import data, models
from keras_dropblock.analysis import plots
from keras_dropblock.analysis.tables import Table
from keras_dropblock.grids import points

pytest.importorskip("matplotlib")
HEAD = "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss"


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
    plots.training_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    # 3.4 inches a panel at 120 dots an inch
    width = picture(tmp_path / "curves.png").shape[1]
    assert width == 408 * (3 + keep_prob)


def test_masks_are_drawn_on_feature_maps_of_real_images(tmp_path):
    images = data.load("digits").x_test[:2]
    model = models.WRN(10, 1, input_shape=(32, 32, 1))
    plots.dropblock_masks(
        model,
        images,
        tmp_path / "masks.png",
        normalise=data.Normalise((77.9,), (95.9,)),
    )
    image = picture(tmp_path / "masks.png")
    assert image.shape[1] == 1152 and image.std() > 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["masks.png"]
    assert np.isfinite(image).all()


def sweep_of(grid, seeds=2, failed=()):
    """A table in which point i has the accuracies i % and i + 2 %."""
    scores = {
        point: [
            {"accuracy": a / 100, "nll": 1.0, "parameters": 1, "seconds": None}
            for a in (i, i + 2)[: seeds - (point in failed)]
        ]
        for i, point in enumerate(points(grid))
    }
    return Table.of(grid, seeds, scores, dict.fromkeys(failed, 1))


@pytest.fixture
def drawn(monkeypatch):
    """What would be saved: the figure, for its cells to be read."""
    figures = []
    monkeypatch.setattr(
        plots, "save", lambda figure, path: figures.append(figure)
    )

    def draw(table):
        plots.sweep_map(table, "sweep.png", "WRN-10-1 on digits")
        *panels, _ = figures.pop().axes  # the last is the colour bar
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


def test_a_cell_of_a_sweep_stands_where_its_values_are(drawn):
    grid = {
        "block_size": (1, 3),
        "schedule": ("linear",),
        "keep_prob": (0.8, 0.9, 1.0),
        "dropblock_groups": ((3,), (2, 3)),
    }
    left, right = drawn(sweep_of(grid))
    assert [axes.get_title() for axes in (left, right)] == [
        *("dropblock_groups [3]", "dropblock_groups [2, 3]")
    ]
    assert (left.get_xlabel(), left.get_ylabel()) == ("block_size", "keep_prob")
    # Point i of the product, the groups fastest: mean i + 1, std sqrt(2) %.
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


def test_a_sweep_of_one_key_is_a_row_and_tells_what_it_lacks(drawn):
    table = sweep_of({"block_size": (1, 3, 5)}, failed=[(3,)])
    table.rows[0].update(n=0, accuracy_mean=None, accuracy_std=None)
    (axes,) = drawn(table)
    assert cells(axes) == {
        ("1",): "–",
        ("3",): "1.00\n1 failed",
        ("5",): "3.00\n± 1.41",
    }
    assert axes.collections[0].get_array().mask.tolist() == [
        [True, False, False]
    ]


@pytest.mark.parametrize("values", [(1,), (1, 3), (1, 3, 5, 7, 9)])
def test_sweeps_of_any_number_of_panels_are_written_whole(tmp_path, values):
    grid = {"keep_prob": (0.8, 0.9), "cutout": (0, 8), "block_size": values}
    plots.sweep_map(sweep_of(grid, seeds=1), tmp_path / "sweep.png", "digits")
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.png"]
    assert picture(tmp_path / "sweep.png").std() > 0.1


def test_a_sweep_without_a_score_is_drawn(drawn):
    grid = {"block_size": (1, 3)}
    (axes,) = drawn(Table.of(grid, 1, {}, {(1,): 1}))
    assert cells(axes) == {("1",): "–\n1 failed", ("3",): "–"}
