"""Fine-tuning by recipe: where initial weights come from, and its errors."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import small_runs
from keras_dropblock import fit, load, models
from keras_dropblock.errors import RecipeError, WeightsError
from keras_dropblock.optimizers import SGD
from keras_dropblock.training import plan
from keras_dropblock.training.recipe import Recipe

SHAPE = (8, 12, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The work directory of a run with three classes, and its model."""
    folder = tmp_path_factory.mktemp("source") / "run"
    recipe = Recipe(model="WRN-10-1")
    model = small_runs.write_untrained(folder, recipe, SHAPE, ["a", "b", "c"])
    rng = np.random.default_rng(1)
    model.set_weights([rng.random(w.shape) for w in model.get_weights()])
    model.save_weights(folder / "model.weights.h5")
    model.card = load(str(folder)).card
    return folder, model


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of images with two classes, for training and test."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for i, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for j in range(count):
                pixels = rng.integers(0, 128, SHAPE) + 100 * i
                image = Image.fromarray(pixels.astype("uint8"))
                image.save(folder / split / name / f"{j}.png")
    return folder


def recipe_for(photographs, initial_weights, **changes):
    return Recipe().replaced(
        {
            "model": "WRN-10-1",
            "dataset": f"folder:{photographs}",
            "image_size": 8,
            "augmentation": "none",
            "epochs": 1,
            "batch_size": 4,
            "learning_rate_drops": [],
            "initial_weights": str(initial_weights),
            **changes,
        },
        "test",
    )


def kernel(model, name="group1_block1"):
    return keras.ops.convert_to_numpy(model.get_layer(name).weights[0])


def test_a_run_is_fine_tuned_on_a_folder_of_images(
    source, photographs, tmp_path
):
    folder, model = source
    recipe = recipe_for(
        photographs, folder, freeze=2, head_learning_rate_factor=10.0
    )
    scores = fit(recipe, tmp_path / "run", verbose=0)
    assert scores["images"] == 4
    tuned = load(str(tmp_path / "run"))
    assert tuned.card.class_names == ("cat", "dog")
    for layer in model.layers:
        old = layer.get_weights()
        new = tuned.get_layer(layer.name).get_weights()
        same = [np.array_equal(a, b) for a, b in zip(old, new, strict=True)]
        if layer.name in ("stem", "group1_block1", "group2_block1"):
            assert all(same)
        elif old:
            assert not any(same), layer.name


def test_every_kind_of_source_gives_the_same_weights(source, tmp_path):
    folder, model = source
    model.save(tmp_path / "model.keras")
    arrays = {
        f"{x}_{split}": np.zeros((4, *SHAPE) if x == "x" else 4, "uint8")
        for x in "xy"
        for split in ("train", "test")
    }
    arrays["y_train"] = arrays["y_test"] = np.array([0, 1, 0, 1])
    np.savez(tmp_path / "images.npz", **arrays)
    for path in (
        folder,
        folder / "model.weights.h5",
        tmp_path / "model.keras",
    ):
        recipe = Recipe(
            model="WRN-10-1", dataset=str(tmp_path / "images.npz")
        ).override([f"initial_weights={path}", "mean=[1.0, 1.0, 1.0]"])
        new = plan.resolve(
            dataclasses.replace(recipe, std=(1.0, 1.0, 1.0))
        ).model(1)
        assert np.array_equal(kernel(new), kernel(model))
        assert new.output.shape == (None, 2)


def test_pixels_are_normalized_as_for_the_initial_weights(source, photographs):
    folder, model = source
    mean = tuple(model.card.preprocessing.mean)
    recipe = plan.settled(recipe_for(photographs, folder))
    assert recipe.mean == mean == small_runs.MEAN
    given = recipe_for(photographs, folder, mean=[9.0, 9.0, 9.0])
    assert plan.settled(given).mean == (9.0, 9.0, 9.0)
    file = folder / "model.weights.h5"  # without a card: as without weights
    assert plan.settled(recipe_for(photographs, file)).mean is None


def test_a_run_keeps_the_license_of_its_initial_weights(
    source, photographs, tmp_path
):
    folder, model = source
    given = {"license": "CC-BY-NC-4.0", "origin": "hf://owner/name@1"}
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    dataclasses.replace(model.card, **given).write(other)
    card = plan.resolve(recipe_for(photographs, other)).card
    assert {"license": card.license, "origin": card.origin} == given
    # The license of a file without a card is not known.
    file = folder / "model.weights.h5"
    recipe = recipe_for(photographs, file, mean=[1.0] * 3, std=[1.0] * 3)
    card = plan.resolve(recipe).card
    assert (card.license, card.origin) == ("unknown", "model.weights.h5")
    recipe = Recipe(model="WRN-10-1", dataset=f"folder:{photographs}")
    recipe = dataclasses.replace(recipe, image_size=8)
    assert plan.resolve(recipe).card.license == "Apache-2.0"


def test_another_network_is_an_error_that_names_layers(source, photographs):
    folder, _ = source
    for name, layer in (("WRN-16-1", "group1_block2"), ("WRN-10-2", "group1")):
        recipe = recipe_for(photographs, folder, model=name)
        with pytest.raises(WeightsError, match=f"These layers differ.*{layer}"):
            plan.resolve(recipe).model(1)


def test_initial_weights_that_are_missing(photographs, tmp_path):
    for path in (tmp_path / "no.weights.h5", "no_such_model"):
        recipe = recipe_for(photographs, path, mean=[1.0] * 3, std=[1.0] * 3)
        with pytest.raises(WeightsError, match="no"):
            plan.resolve(recipe).model(1)


def test_freeze_needs_weights_and_groups(source, photographs):
    with pytest.raises(RecipeError, match="`freeze` needs `initial_weights`"):
        Recipe().override(["freeze=1"])
    recipe = recipe_for(photographs, source[0], freeze=4)
    with pytest.raises(RecipeError, match="`freeze` must be at most 3"):
        plan.resolve(recipe).model(1)


def test_factors_need_layers_that_are_trained():
    model = models.WRN(10, 1, input_shape=SHAPE)
    optimizer = SGD(0.1, learning_rate_factors={"head": 2.0})
    with pytest.raises(ValueError, match="layers that are trained.*head"):
        optimizer.build(model.trainable_variables)
    copy = SGD.from_config(optimizer.get_config())
    assert copy.learning_rate_factors == {"head": 2.0}
