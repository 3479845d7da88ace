"""The cost of the papers' networks, and the recipes for them."""

import pathlib
import re

import keras
import pytest

from keras_dropblock import files
from keras_dropblock.analysis import complexity, networks
from keras_dropblock.cli import list as command
from keras_dropblock.layers import PostActivationBlock
from keras_dropblock.models import WRN, PreActResNet, ResNet
from keras_dropblock.training.recipe import Recipe

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = sorted((ROOT / "training" / "recipes").glob("*.toml"))
# (training images, input shape, classes)
DATASETS = {
    "digits": (1_437, (32, 32, 1), 10),
    "cifar10": (50_000, (32, 32, 3), 10),
    "cifar100": (50_000, (32, 32, 3), 100),
    "svhn_cropped": (604_388, (32, 32, 3), 10),  # train and extra
    "imagenet2012": (1_281_167, (224, 224, 3), 1000),
    "imagenette/160px-v2": (1_500, (128, 128, 3), 10),  # the subset
}


def test_multiply_adds_by_hand():
    # Stem 27 * 16 at 1024 places. Group 1: 2 convs of 9 * 16 * 16 there.
    # Group 2: 9 * 16 * 32 and 9 * 32 * 32 at 256 places, shortcut 16 * 32.
    # Group 3: twice the channels at a quarter of the places. Logits 64 * 10.
    expected = (
        1024 * (27 * 16 + 2 * 9 * 16 * 16)
        + 256 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
        + 64 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
        + 64 * 10
    )
    assert complexity.multiply_adds(WRN(10, 1, keep_prob=0.9)) == expected


def test_a_stride_in_a_bottleneck_counts_where_it_is():
    # In both kinds, the size is 4 x 4 from the 3x3 conv on. The 1x1 conv before
    # it has 8 x 8 in a post-activation bottleneck. In a pre-activation one it
    # has the stride.
    model = keras.Sequential([keras.Input((8, 8, 8))])
    model.add(PostActivationBlock(16, (1, 3, 1), inner_filters=4, strides=2))
    block = 64 * 8 * 4 + 16 * (9 * 4 * 4 + 4 * 16 + 8 * 16)
    functional = keras.Model(model.inputs, model.layers[0](model.inputs[0]))
    assert complexity.multiply_adds(functional) == block


@pytest.mark.parametrize(
    "build, giga",
    [
        # The first five are published counts, computed from the structure.
        (lambda: WRN(16, 4), 0.39),
        (lambda: WRN(16, 8), 1.55),
        (lambda: WRN(40, 4), 1.30),
        (lambda: WRN(22, 8), 2.45),
        (lambda: WRN(28, 10), 5.24),
        (lambda: ResNet(18), 1.81),  # 1.8 in He et al. 2015, table 1
        (lambda: ResNet(34), 3.66),  # 3.6 there
        (lambda: PreActResNet(164), 0.24),
    ],
)
def test_multiply_adds_are_the_known_ones(build, giga):
    assert complexity.multiply_adds(build()) / 1e9 == pytest.approx(
        giga, abs=0.005
    )


def test_the_model_zoo_shows_every_network():
    table = command.table(ROOT / "training" / "recipes")
    assert f"<!-- networks -->\n\n{table}\n<!-- /networks -->" in (
        ROOT / "docs" / "zoo.md"
    ).read_text("utf-8"), "Run python tools/networks_table.py"
    assert table.count("\n") == 2 + len(networks.NETWORKS)
    used = {Recipe.from_toml(path).model for path in RECIPES}
    unused = networks.NETWORKS.keys() - used
    assert unused == {"WRN-101-2-bottleneck"}  # not in a table of the papers


@pytest.mark.slow
def test_networks_have_the_documented_sizes():
    for name, network in networks.NETWORKS.items():
        shape = (network.image_size, network.image_size, 3)
        found = complexity.size(name, shape, network.num_classes)
        assert found == (network.parameters, network.multiply_adds), name
        keras.utils.clear_session()


@pytest.mark.slow
def test_the_heads_of_recipes_say_what_training_costs():
    sizes = {}
    for path in RECIPES:
        recipe = Recipe.from_toml(path)
        images, image_shape, classes = DATASETS[recipe.dataset]
        if part := re.fullmatch(r"train\[:(\d+)\]", recipe.train_split):
            images = int(part[1])
        network = recipe.model, image_shape, classes
        if network not in sizes:  # networks with up to 1,202 layers
            _, sizes[network] = complexity.size(*network)
            keras.utils.clear_session()
        compute = complexity.petaflop(sizes[network], images * recipe.epochs)
        (text,) = re.findall(r"# Compute: (\S+) PFLOP", path.read_text())
        assert float(text) == pytest.approx(compute, rel=0.055), path.name


def test_the_table_without_recipes_has_no_such_column(monkeypatch):
    few = {"WRN-16-4": networks.NETWORKS["WRN-16-4"]}
    monkeypatch.setattr(networks, "NETWORKS", few)
    assert networks.table().splitlines() == [
        "| network | images | parameters | multiply-adds |",
        "| --- | --- | ---: | ---: |",
        "| WRN-16-4 | 32 x 32 | 2,748,890 | 0.393 G |",
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipes_head_says_what_it_is_and_how_to_run_it(path):
    text = path.read_text("utf-8")
    head = re.match(r"(?:#.*\n)+", text)[0]
    assert f"--recipe=training/recipes/{path.name} " in head
    if "table" in head:  # a score from a paper, and how it was verified
        assert re.search(r"\d %", head) and "verified" in head
    assert re.search(
        r"Not run by this project yet|Result: |not a\n?#? ?result", head
    )
    # A body has only keys that differ from the defaults, each once.
    recipe, default = Recipe.from_toml(path).flat(), Recipe().flat()
    keys = re.findall(r"^(\w+) =", text, re.M)
    assert len(keys) == len({*keys})
    same = [k for k in keys if recipe[k] == default[k]]
    assert same in ([], ["model"])


def test_a_marked_part_of_a_file_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
    files.write_between(path, "x", "new\n")
    assert path.read_text() == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n"
    with pytest.raises(ValueError, match="one line <!-- y -->"):
        files.write_between(path, "y", "new\n")
