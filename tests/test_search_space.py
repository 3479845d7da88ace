"""Search spaces: their text, their values, and what is refused."""

import importlib
import itertools
import pathlib
import re
import sys

import pytest

pytest.importorskip("optuna")
from keras_dropblock.errors import MissingExtraError, RecipeError
from keras_dropblock.search import session, space
from keras_dropblock.search.dimensions import Choice, Range
from keras_dropblock.search.trial import Objective
from keras_dropblock.training.recipe import Recipe

HERE = pathlib.Path("runs")
BASE = Recipe(validation_split=0.1)


def checked(texts, recipe=BASE):
    return space.checked(recipe, space.parse(texts))


def folders(values, recipe=BASE, seeds=1):
    objective = Objective(recipe, {}, HERE, seeds, named_by_values=True)
    return [run.workdir for run in objective.runs(0, values)]


def test_a_space_is_written_as_functions_or_lists():
    found = checked(
        [
            "keep_prob=float(0.75, 1)",
            "block_size = int(3, 9, step=2)",
            "learning_rate=log(0.001, 0.1)",
            "cutout=int(1, 8)",
            "dropblock_groups=choice([3], [2, 3])",
            'schedule=["linear", "constant"]',
            "dropblock_skip=[true, false]",
            "dropout=float(0, 0.3, step=0.1)",
        ]
    )
    assert found == {
        "keep_prob": Range(0.75, 1.0),
        "block_size": Range(3, 9, step=2),
        "learning_rate": Range(0.001, 0.1, log=True),
        "cutout": Range(1, 8),
        "dropblock_groups": Choice(((3,), (2, 3))),
        "schedule": Choice(("linear", "constant")),
        "dropblock_skip": Choice((True, False)),
        "dropout": Range(0.0, 0.3, step=0.1),
    }
    # Its text can be read again.
    for key, dimension in found.items():
        assert checked([f"{key}={dimension}"]) == {key: dimension}
        assert space.checked(BASE, {key: dimension}) == {key: dimension}


def test_the_grid_of_a_range_has_both_ends_and_exact_decimals():
    assert Range(0.7, 1.0, step=0.1).grid() == (0.7, 0.8, 0.9, 1.0)
    assert Range(3, 9, step=3).grid() == (3, 6, 9)
    assert Range(3, 5).grid() == (3, 4, 5)
    assert Range(0.7, 1.0).grid() is None


def test_values_survive_a_round_trip_through_optuna():
    for dimension in (
        Choice(((3,), (2, 3), ())),
        Choice((0.8, 1.0)),
        Choice((True, False)),
        Range(0.7, 1.0, step=0.1),
        Range(3, 9, step=2),
    ):
        distribution = dimension.distribution()
        for value in dimension.grid():
            stored = dimension.stored(value)
            inside = distribution.to_internal_repr(stored)
            assert distribution._contains(inside)
            outside = distribution.to_external_repr(inside)
            assert dimension.value(outside) == value
    assert Range(0.7, 1.0, step=0.1).value(0.7000000000000001) == 0.7


def test_every_point_of_a_grid_is_there_once():
    grid = {"block_size": (1, 3), "keep_prob": (0.8, 0.9, 1.0)}
    assert space.points(grid) == [*itertools.product([1, 3], [0.8, 0.9, 1.0])]
    assert space.points({}) == [()]


def test_a_folder_is_named_after_its_values_in_any_order_of_the_keys():
    values = {
        "model": "WRN-40-2-B(3,1,3)",
        "keep_prob": 0.9,
        "dropblock_groups": (2, 3),
        "dropblock_skip": True,
    }
    name = (
        "model=WRN-40-2-B-3-1-3,keep_prob=0.9,dropblock_groups=2-3,"
        "dropblock_skip=true,seed=0"
    )
    for each in (values, dict(reversed(values.items()))):
        assert folders(each) == [HERE / name]
    assert folders({"dropblock_groups": ()}) == [
        HERE / "dropblock_groups=none,seed=0"
    ]
    assert folders({}) == [HERE / "seed=0"]


def test_seeds_count_from_the_recipes():
    recipe = Recipe(seed=5)
    found = folders({"block_size": 3}, recipe, seeds=3)
    assert [path.name for path in found] == [
        f"block_size=3,seed={seed}" for seed in (5, 6, 7)
    ]
    with pytest.raises(RecipeError, match="--seeds: `seed` must be in"):
        folders({}, Recipe(seed=2**32 - 1), seeds=2)


@pytest.mark.parametrize(
    "texts, message",
    [
        (["block_size"], "--space must read key=value. Received: 'block_size'"),
        (["seed=[0, 1]"], "`seed` cannot vary: each point is averaged"),
        (["task=['a', 'b']"], "`task` cannot vary"),
        (["blocksize=[1]"], "unknown key `blocksize`. Did you mean `block_s"),
        (["block_size=[1, 0]"], "--space: `block_size` must be >= 1"),
        (["block_size=int(0, 3)"], "--space: `block_size` must be >= 1"),
        (["block_size=float(1, 3)"], "`block_size` must be an int. Received"),
        (["block_size=int(1, 2.5)"], "`block_size` must be float(low, high)"),
        (["block_size=int(3, 1)"], "low < high. Received: block_size=int(3"),
        (["keep_prob=float(0.5, 1.5)"], "--space: `keep_prob` must be in [0"),
        (["keep_prob=float(0.5)"], "Received: keep_prob=float(0.5)"),
        (["keep_prob=float(0.5, nan)"], "low < high. Received: keep_prob"),
        (["keep_prob=float(0.5, inf)"], "low < high. Received: keep_prob"),
        (["keep_prob=float(0.5, true)"], "`keep_prob` must be float(low, hi"),
        (["keep_prob=float(0.5, 1, stop=3)"], "`keep_prob` must be float(low"),
        (["keep_prob=float(0.5, 1, step=0.3)"], "must be > 0 and divide"),
        (["keep_prob=float(0.5, 1, step=0)"], "must be > 0 and divide"),
        (["learning_rate=log(0, 1)"], "must be log(low, high) with low > 0"),
        (["learning_rate=log(0.1, 1, step=0.1)"], "`learning_rate` must be fl"),
        (["schedule=uniform(0, 1)"], "`schedule` must be float(low, high)"),
        (["model=int(1, 3)"], "`model` must be a text"),
        (["block_size=3"], "`block_size` must be float(low, high), int(low"),
        (["block_size=[]"], "`block_size` must be float(low, high), int(low"),
        (["block_size=choice()"], "`block_size` must be float(low, high), in"),
        (["schedule=[linear]"], "strings in quotes. Received: schedule='[l"),
        (["dropblock_groups=[2, 3]"], "must be a list of ints. Received: drop"),
        (["block_size=[3, 1, 3]"], "distinct values. Received: block_size=[3,"),
        (["keep_prob=[1, 1.0]"], "`keep_prob` must have distinct values"),
        (["cutout=[1]", "cutout=[2]"], "`cutout` is given twice"),
        (
            ["dropblock_groups=[[3], [4]]", "block_size=[3, 5]"],
            "`dropblock_groups` = [4] is not possible: `model` WRN-16-4: `dr",
        ),
    ],
)
def test_a_wrong_space_is_one_error_that_names_it(texts, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as error:
        checked(texts)
    assert str(error.value).startswith("--space")


def test_a_value_that_one_combination_allows_is_not_refused():
    found = checked(
        ["model=['WRN-16-4', 'ResNet-50']", "dropblock_groups=[[3], [4]]"]
    )
    assert [*found] == ["model", "dropblock_groups"]


def test_points_of_a_grid_must_not_share_a_folder():
    objective = Objective(
        BASE,
        {"dataset": Choice(("a/b.npz", "a-b.npz"))},
        HERE,
        1,
        named_by_values=True,
    )
    with pytest.raises(RecipeError, match="would share the folder dataset="):
        session._check_folders(objective)


def test_a_missing_optuna_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "keras_dropblock.search")
    with pytest.raises(MissingExtraError, match=r"'keras-dropblock\[search\]'"):
        importlib.import_module("keras_dropblock.search")
