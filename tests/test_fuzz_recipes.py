"""Fuzz tests of recipe files, assignments, search spaces and notations."""

import json
import pathlib
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ODD_VALUES, Group, damaged, pick, several
from keras_dropblock import models
from keras_dropblock.errors import RecipeError
from keras_dropblock.training.recipe import Recipe

pytest.importorskip("optuna")
from keras_dropblock.search import space

pytestmark = pytest.mark.fuzz
RECIPES = pathlib.Path(__file__).parents[1] / "training" / "recipes"
KEYS = [*Recipe().flat()]
# Unusual texts on which parsers are known to fail.
NASTY = [
    "[" * 5000,
    "{a=" * 5000,
    "9" * 5000,
    "-" + "9" * 5000,
    "0x" + "f" * 5000,
    "1" + "0" * 400,
    "-1e999",
    "1e999",
    "nan",
    "-nan",
    "inf",
    "''",
    '""',
    '"""',
    "'''x",
    '"\\ud800"',
    '"\\u0000"',
    '"\\u007f"',
    '"\\U00110000"',
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[1, 'a', 2.5]",
    "[[], [[]]]",
    "true false",
    "#",
    "\x00",
    "\ud800",
    "\udcff",
    "é" * 3000,
    "1_000",
    "0o7",
    "[1,]",
    "{}",
    "{a = 1}",
    "1\nepochs = 2",
    "1\n[table]\nx = 1",
    "=",
    "a=b",
]


def values():
    """Values that TOML can express, mostly invalid in a recipe."""
    plain = st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(max_size=20),
        st.sampled_from(["linear", "WRN-10-1", "crop", "float32", "mirrored"]),
    )
    return st.one_of(plain, st.lists(plain, max_size=4))


def as_toml(value):
    """A value in TOML: as in JSON, except for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("NaN", "nan").replace("Infinity", "inf")


def parse(text, path):
    """Read a recipe file. An accepted recipe must survive a round trip."""
    path.write_bytes(text if isinstance(text, bytes) else encoded(text))
    check_round_trip(Recipe.from_toml(path), path)


def encoded(text):
    return text.encode("utf-8", "surrogatepass")


def override(text, path):
    check_round_trip(Recipe().override([text]), path)


def check_round_trip(recipe, path):
    try:
        recipe.write(path)
        assert Recipe.from_toml(path) == recipe
    except ValueError as error:
        raise AssertionError(f"It is written, but not read: {error}") from error


def search_space(texts):
    recipe = Recipe(validation_split=0.1)
    found = space.checked(recipe, space.parse(texts))
    for key, dimension in found.items():
        dimension.distribution()
        for value in dimension.examples():
            assert dimension.value(dimension.stored(value)) == value
            recipe.replaced({key: value}, "")


def test_recipe_files_end_in_a_recipe_or_a_recipe_error(
    tmp_path, record_property
):
    group = Group("recipes: files", record_property)
    path = tmp_path / "recipe.toml"
    files = [file.read_bytes() for file in sorted(RECIPES.glob("*.toml"))]
    files += [encoded(Recipe().to_toml())] * len(files)

    def run(label, text, derived):
        group.case(label, RecipeError, parse, text, path, derived=derived)

    for i in range(900):
        rng = np.random.default_rng([1, i])
        content = damaged(rng, pick(rng, files))
        run(f"damaged {i}", content, True)
    for i in range(900):
        rng = np.random.default_rng([2, i])
        text = pick(rng, files).decode()
        lines = [line for line in text.splitlines() if "=" in line]
        run(f"changed {i}", changed(rng, lines), True)

    @several(700)
    @given(st.dictionaries(st.sampled_from(KEYS), values(), max_size=4))
    def of_values(entries):
        lines = (f"{key} = {as_toml(v)}" for key, v in entries.items())
        run(repr(entries), "\n".join(lines), False)

    @several(300)
    @given(st.one_of(st.text(), st.binary()))
    def of_anything(text):
        run(repr(text), text, False)

    of_values()
    of_anything()
    group.close(at_least=2500)


def changed(rng, lines):
    """The lines of a recipe, with one line damaged or repeated."""
    at = int(rng.integers(len(lines)))
    key, _, value = lines[at].partition("=")
    kind = rng.integers(6)
    if kind == 0:
        value = pick(rng, NASTY)
    elif kind == 1:
        value = odd(rng)
    elif kind == 2:
        key = pick(rng, KEYS)
    elif kind == 3:
        key = damaged(rng, key.encode()).decode("latin-1")
    elif kind == 4:
        value = damaged(rng, value.encode()).decode("latin-1")
    line = f"{key} = {value}"
    return "\n".join(
        [*lines[:at], *[line] * int(1 + (kind == 5)), *lines[at + 1 :]]
    )


def odd(rng):
    """One of the unusual values as TOML, if TOML can express it."""
    value = pick(rng, ODD_VALUES)
    return "{}" if value is None else as_toml(value)


def test_assignments_end_in_a_recipe_or_a_recipe_error(
    tmp_path, record_property
):
    group = Group("recipes: assignments", record_property)
    path = tmp_path / "recipe.toml"
    valid = Recipe(
        dropblock_groups=(2, 3), mean=(1.5, 2.5), data_dir="d", image_size=32
    )
    lines = valid.to_toml().splitlines()

    def run(label, text, derived):
        group.case(label, RecipeError, override, text, path, derived=derived)

    for i in range(900):
        rng = np.random.default_rng([3, i])
        text = pick(rng, lines)
        run(f"damaged {i}", damaged(rng, text.encode()).decode("latin-1"), True)
    for i in range(500):
        rng = np.random.default_rng([7, i])
        key, text = pick(rng, KEYS), pick(rng, NASTY)
        run(f"nasty {i}", f"{key}={text}", False)

    @several(300)
    @given(st.sampled_from(["", "=", *KEYS]), values(), st.text(max_size=10))
    def of_values(key, value, text):
        run(repr((key, value)), f"{key}={as_toml(value)}", False)
        run(repr((key, text)), f"{key}={text}", False)

    of_values()
    group.close(at_least=2000)


def test_search_spaces_end_in_points_or_a_recipe_error(record_property):
    group = Group("recipes: search spaces", record_property)
    valid = [
        "block_size=[1, 3, 5]",
        "keep_prob=[0.8, 0.9]",
        "dropblock_groups=[[3], [2, 3]]",
        "schedule=['linear', 'constant']",
        "jit_compile=[true, false]",
        "learning_rate=[0.1, 1e-3]",
        "keep_prob=float(0.75, 1.0)",
        "learning_rate=log(1e-3, 0.1)",
        "block_size=int(3, 9, step=2)",
        "dropblock_groups=choice([3], [2, 3])",
    ]

    def run(label, texts, derived):
        group.case(label, RecipeError, search_space, texts, derived=derived)

    for i in range(700):
        rng = np.random.default_rng([4, i])
        chosen = [str(t) for t in rng.choice(valid, rng.integers(1, 4))]
        chosen[0] = damaged(rng, chosen[0].encode()).decode("latin-1")
        run(f"damaged {i}", chosen, True)
    for i in range(200):
        rng = np.random.default_rng([5, i])
        key, text = pick(rng, KEYS), pick(rng, NASTY)
        form = pick(rng, ["[{}]", "choice({})", "float({})", "int(1, {})"])
        run(f"nasty {i}", [f"{key}={form.format(text)}"], False)

    @several(300)
    @given(st.sampled_from(KEYS), st.lists(values(), max_size=4))
    def of_values(key, entries):
        run(repr((key, entries)), [f"{key}={as_toml(entries)}"], False)

    of_values()
    group.close(at_least=1200)


def test_notations_end_in_a_network_or_a_value_error(record_property):
    group = Group("recipes: notations", record_property, seconds=60)
    valid = ["WRN-10-1", "WRN-10-1-B(3,3)", "CifarResNet-8", "PreActResNet-8"]
    for i in range(300):
        rng = np.random.default_rng([6, i])
        start = pick(rng, valid)
        notation = damaged(rng, start.encode()).decode("latin-1")
        if small(notation):
            group.case(
                repr(notation),
                ValueError,
                models.from_notation,
                notation,
                derived=True,
            )
    huge = "9" * 5000
    for notation in (
        f"WRN-{huge}-1",
        f"WRN-10-{huge}x",
        f"WRN-{huge}-2-bottleneck",
        f"ResNet-50-{huge}",
        f"ResNet-{huge}",
        f"ResNet-50-0.{huge}",
        f"PreActResNet-{huge}",
        f"CifarResNet-{huge}",
        "ResNet-50-0",
        "WRN-10-0",
        "WRN-0-1",
        "ResNet-50-0.001",
        "WRN-10-1-B(,)",
        "WRN-10-1-B( )",
        f"WRN-10-1-B({huge})",
        "WRN-１０-1",
        "WRN-²-1",
        f"ResNet-50-{'9' * 400}",
    ):
        group.case(
            notation[:40],
            ValueError,
            models.from_notation,
            notation,
            derived=False,
        )
    group.close(at_least=200)


def small(notation):
    """Whether a notation is invalid, or small enough to build in a test."""
    numbers = "".join(c if c.isdecimal() else " " for c in notation).split()
    return all(int(number) <= 40 for number in numbers)


def test_the_cases_include_errors_that_tomllib_does_not_wrap():
    for text, error in (
        (f"epochs = {NASTY[0]}", RecursionError),
        (f"epochs = {NASTY[2]}", ValueError),
    ):
        with pytest.raises(error) as raised:
            tomllib.loads(text)
        assert raised.type is error
