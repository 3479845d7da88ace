"""Publishing a segmenter, from its training to its predictions."""

import json
import shutil

import numpy as np
import pytest

import card_metrics
import keras_dropblock as kdb
import mask_folders
import pages
import publish as publication
import publish_rules
from cards_check import check_cards, check_folder
from keras_dropblock import data
from keras_dropblock.data import shapes
from keras_dropblock.hub import Card
from keras_dropblock.training.recipe import Recipe
from small_runs import COMMIT, change, commit

pytest.importorskip("tensorflow")
NAME = "fcn_resnet_18_0p125_camvid_head_dropblock"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one epoch on images and masks in folders."""
    folder = tmp_path_factory.mktemp("machine")
    mask_folders.write(folder / "CamVid")
    recipe = Recipe().override(
        [
            "task=segmentation",
            f"dataset=masks:{folder / 'CamVid'}",
            "image_size=[64, 96]",
            "model=ResNet-18-0.125",
            "head_filters=16",
            "head_keep_prob=0.9",
            "head_block_size=3",
            "ignored_labels=[11]",
            "augmentation=flip",
            "batch_size=4",
            "epochs=1",
            "learning_rate_drops=[]",
        ]
    )
    kdb.fit(recipe, folder / "run", verbose=0)
    return folder / "run"


def test_a_segmenter_is_published_refreshed_loaded_and_predicts(
    trained, checkout, tmp_path
):
    run = shutil.copytree(trained, tmp_path / "run")
    change(run / "run.json", commit(COMMIT))

    def spoil(scores):  # as a validation split without any labeled pixel
        scores["validation"]["miou"] = float("nan")

    change(run / "metrics.json", spoil)
    recipe = checkout / "training" / "recipes" / "vision" / f"{NAME}.toml"
    recipe.parent.mkdir()
    recipe.write_text("# Not run by this project yet.\n")
    folder = publication.publish([run], checkout)
    assert folder == checkout / "models" / NAME
    check_folder(folder, ["confusion.png", "predictions.png"], trained.parent)
    assert "Result: models/" in recipe.read_text()
    card = Card.from_folder(folder)
    assert card.dataset == "masks:CamVid" and card.task == "segmentation"
    assert card.metrics["runs"][0]["validation"]["miou"] is None
    assert len(card.metrics["test"]["sha256"]) == 64
    publication.refresh(checkout)
    check_cards(checkout)
    scores = json.loads((run / "metrics.json").read_text())
    page = " ".join((folder / "README.md").read_text().split())
    miou = f"{100 * scores['miou']:.2f}"
    assert f"| mIoU, % | {miou} | {miou} |" in page
    assert "one of its 2 classes to each pixel of any image" in page
    assert "ResNet-18-0.125 for semantic segmentation with" in page
    assert "top=3" not in page
    assert miou in (checkout / "docs" / "zoo.md").read_text()

    model = kdb.load(NAME)
    assert kdb.hub.list_models()[NAME]["miou"] == scores["miou"]
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), "uint8")
    (mask,) = kdb.predict(model, [image])
    np.testing.assert_array_equal(mask, kdb.predict(kdb.load(run), [image])[0])


def test_a_segmenter_is_not_the_default_for_classifiers(
    trained, checkout, tmp_path
):
    run = shutil.copytree(trained, tmp_path / "run")
    change(run / "run.json", commit(COMMIT))
    with pytest.raises(publish_rules.PublishError, match="`default` must be"):
        publication.publish([run], checkout, default=True)


@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_the_digest_depends_on_every_mask_and_object(labels):
    def opened():
        return data.load("shapes", labels=labels, image_size=(48, 64))

    dataset, other = opened(), opened()
    same = card_metrics.test_digest(dataset)
    assert card_metrics.test_digest(other) == same
    images, rows = other.arrays["test"]
    if labels == "masks":
        last = rows[-1:][0].copy()
        last[-1, -1] = 3 - last[-1, -1]
        rows.readers[-1] = lambda: last
        rows._known.clear()
    else:
        rows.objects[-1].crowd[-1] = True
    assert card_metrics.test_digest(other) != same


def test_limits_say_what_each_task_does():
    for task, claim in (
        ("classification", "one of its 3 classes to any image."),
        ("segmentation", "one of its 3 classes to each pixel of any image."),
        ("detection", "finds only objects of its 3 classes"),
        ("brightness:Brightness", "Its scores hold only"),
    ):
        card = Card(
            "x",
            data.Preprocessing((8, 8), (0.0,), (1.0,)),
            shapes.CLASS_NAMES,
            task=task,
        )
        assert claim in " ".join(pages._limits(card).split())
