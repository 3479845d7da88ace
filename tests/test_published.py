"""The published models are what their cards say."""

import json
import pathlib
import re
import subprocess

import pytest

from cards_check import check_cards
from keras_dropblock import assembly, data, models, publishing
from keras_dropblock.analysis.networks import parameters
from keras_dropblock.analysis.scores import scores
from keras_dropblock.models import cards, weights

ROOT = pathlib.Path(__file__).parents[1]
PUBLISHED = sorted(cards.read_registry())


def test_cards_registry_and_tables_tell_the_same():
    check_cards(ROOT)


def test_weights_in_the_repository_are_those_of_their_cards_and_small():
    registry = cards.read_registry()
    saved = [*(ROOT / "saved_models").glob("*/model.weights.h5")]
    packaged = [*weights.PACKAGED.glob("*.h5")]
    names = [path.parent.name for path in saved]
    names += [path.name.removesuffix(".weights.h5") for path in packaged]
    for name, path in zip(names, saved + packaged, strict=True):
        published = registry[name].metrics["weights"]
        assert weights.digest(path) == published["sha256"], path
        assert path.stat().st_size == published["bytes"]
        assert path.stat().st_size <= publishing.IN_GIT
    # One file for each model that has no URL, and none twice.
    assert len(names) == len({*names})
    without_url = {
        name
        for name, card in registry.items()
        if card.metrics["weights"]["url"] is None
    }
    assert without_url <= {*names}
    of_wheel = sum(path.stat().st_size for path in packaged)
    assert of_wheel <= publishing.IN_WHEEL


def test_what_the_readme_loads_travels_in_the_wheel():
    text = (ROOT / "README.md").read_text("utf-8")
    names = re.findall(r'models\.load\("(\w+)"\)', text)
    for depth, width, of in re.findall(
        r'WRN\((\d+), (\d+), weights="(\w+)"', text
    ):
        names.append(cards.of_network(of, f"WRN-{depth}-{width}").name)
    assert len(names) >= 2
    for name in names:
        assert (weights.PACKAGED / f"{name}.weights.h5").is_file(), name


def test_git_keeps_published_weights_and_ignores_what_is_exported():
    def ignored(path):
        result = subprocess.run(["git", "check-ignore", path], cwd=ROOT)
        if result.returncode == 128:
            pytest.skip("this is no git checkout")
        return result.returncode == 0

    assert not ignored("saved_models/net/model.weights.h5")
    assert not ignored("keras_dropblock/models/published/net.weights.h5")
    assert ignored("saved_models/net/1/saved_model.pb")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_the_size_of_its_card(name):
    card = cards.read_registry()[name]
    if card.metrics["weights"]["url"] is not None:
        pytest.skip("its weights are not in the repository")
    model = models.load(name)
    assert parameters(model) == card.metrics["parameters"]
    assert model.output.shape == (None, len(card.class_names))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weights_give_the_scores_of_the_card_on_real_data(name):
    card = cards.read_registry()[name]
    folder = ROOT / "models" / name
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    splits = load_if_here(card.recipe)
    if metrics["test"]["sha256"] is not None:
        assert publishing.test_digest(splits) == metrics["test"]["sha256"]
    model = models.load(name)
    batches = assembly.batches(card.recipe, splits, "test")
    found = scores(model.predict(batches, verbose=0), batches.labels)
    own = metrics["runs"][0]
    assert found["images"] == metrics["test"]["images"]
    assert found["accuracy"] == pytest.approx(own["accuracy"], abs=2e-3)
    assert found["nll"] == pytest.approx(own["nll"], abs=1e-2)
    assert found["ece"] == pytest.approx(own["ece"], abs=5e-3)


def load_if_here(recipe):
    """The data of a recipe, or a skip; nothing is fetched."""
    if recipe.dataset != "digits":
        tfds = pytest.importorskip("tensorflow_datasets")
        builder = tfds.builder(recipe.dataset)
        if not data.tfds.is_prepared(builder):
            pytest.skip(
                f"{recipe.dataset} is not prepared in {builder.data_path}"
            )
    return assembly.load(recipe)
