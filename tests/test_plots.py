"""Pictures are written whole, with the panels they should have."""

import numpy as np
import pytest

from keras_dropblock import data, models
from keras_dropblock.analysis import plots

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
