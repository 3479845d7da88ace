"""The published models agree with their cards."""

import pathlib
import re
import subprocess

import pytest

import card_metrics
import publish_rules
from cards_check import check_cards
from keras_dropblock import data, load
from keras_dropblock.analysis.complexity import parameters
from keras_dropblock.hub import Card, registry, weights
from keras_dropblock.training import evaluation, plan

ROOT = pathlib.Path(__file__).parents[1]
PUBLISHED = sorted(registry.cards())


def test_cards_registry_and_tables_agree():
    check_cards(ROOT)


def test_weights_in_the_repository_are_small_and_match_their_cards():
    known = registry.cards()
    saved = [*(ROOT / "saved_models").glob("*/model.weights.h5")]
    packaged = [*weights.PACKAGED.glob("*.h5")]
    names = [path.parent.name for path in saved]
    names += [path.name.removesuffix(".weights.h5") for path in packaged]
    for name, path in zip(names, saved + packaged, strict=True):
        published = known[name].metrics["weights"]
        assert weights.digest(path) == published["sha256"], path
        assert path.stat().st_size == published["bytes"]
        assert path.stat().st_size <= publish_rules.IN_GIT
    # Exactly one file for each model without a URL.
    assert len(names) == len({*names})
    without_url = {
        name
        for name, card in known.items()
        if card.metrics["weights"]["url"] is None
    }
    assert without_url <= {*names}
    of_wheel = sum(path.stat().st_size for path in packaged)
    assert of_wheel <= publish_rules.IN_WHEEL


def test_models_in_the_readme_are_in_the_wheel():
    text = (ROOT / "README.md").read_text("utf-8")
    names = re.findall(r'kdb\.load\("(\w+)"', text)
    for depth, width, of in re.findall(
        r'WRN\((\d+), (\d+), weights="(\w+)"', text
    ):
        names.append(registry.for_network(of, f"WRN-{depth}-{width}").name)
    assert len(names) >= 2
    for name in names:
        assert (weights.PACKAGED / f"{name}.weights.h5").is_file(), name


def test_git_keeps_published_weights_and_ignores_exports():
    def ignored(path):
        result = subprocess.run(["git", "check-ignore", path], cwd=ROOT)
        if result.returncode == 128:
            pytest.skip("this is no git checkout")
        return result.returncode == 0

    assert not ignored("saved_models/net/model.weights.h5")
    assert not ignored("keras_dropblock/hub/published/net.weights.h5")
    assert ignored("saved_models/net/1/saved_model.pb")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_the_size_of_its_card(name):
    card = registry.cards()[name]
    if card.metrics["weights"]["url"] is not None:
        pytest.skip("its weights are not in the repository")
    model = load(name)
    assert parameters(model) == card.metrics["parameters"]
    assert model.output.shape == (None, len(card.class_names))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weights_give_the_scores_of_the_card_on_real_data(name):
    card = Card.from_folder(ROOT / "models" / name)
    metrics = card.metrics
    recipe = plan.recipe_of(card)
    require_data(recipe)
    if metrics["test"]["sha256"] is not None:
        dataset = plan.resolve(recipe).dataset
        assert card_metrics.test_digest(dataset) == metrics["test"]["sha256"]
    found = evaluation.evaluate_model(load(name), recipe)
    own = metrics["runs"][0]
    assert found["images"] == metrics["test"]["images"]
    assert found["accuracy"] == pytest.approx(own["accuracy"], abs=2e-3)
    assert found["nll"] == pytest.approx(own["nll"], abs=1e-2)
    assert found["ece"] == pytest.approx(own["ece"], abs=5e-3)


def require_data(recipe):
    """Skip unless the data are prepared. Nothing is downloaded."""
    if recipe.dataset != "digits":
        tfds = pytest.importorskip("tensorflow_datasets")
        builder = tfds.builder(recipe.dataset)
        if not data.sources.tfds.is_prepared(builder):
            pytest.skip(
                f"{recipe.dataset} is not prepared in {builder.data_path}"
            )
