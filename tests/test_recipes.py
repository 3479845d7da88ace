import dataclasses
import re

import pytest

from keras_dropblock.errors import RecipeError
from keras_dropblock.tasks import Classification
from keras_dropblock.training.recipe import Recipe


def write(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_toml_round_trip_loses_nothing(tmp_path):
    recipe = Recipe().override(
        [
            "model=WRN-40-2-B(3,1,3)",
            "keep_prob=0.9",
            "learning_rate_drops=[30, 60]",
            "dropblock_groups=[3]",
            # DEL is the only character that JSON allows and TOML does not.
            'data_dir=/data/with "quotes", ümlaut and \x7f',
            "mean=[125.3, 123.0, 113.9]",
            "jit_compile=true",
            "weight_decay=1e-4",
        ]
    )
    recipe.write(tmp_path / "recipe.toml")
    assert Recipe.from_toml(tmp_path / "recipe.toml") == recipe


def test_an_override_changes_only_its_keys():
    recipe = Recipe().override(
        ["epochs=1", "dataset=digits", "learning_rate=1"]
    )
    assert recipe == dataclasses.replace(
        Recipe(), epochs=1, dataset="digits", learning_rate=1.0
    )
    assert type(recipe.learning_rate) is float


def test_quotes_around_strings_are_optional():
    for text in ("model=WRN-10-1", 'model="WRN-10-1"', "model = WRN-10-1"):
        assert Recipe().override([text]).model == "WRN-10-1"


@pytest.mark.parametrize(
    "text, message",
    [
        ("epoch = 3", "unknown key `epoch`. Did you mean `epochs`?"),
        ("lr = 3", "unknown key `lr`. Did you mean `"),
        (
            "keep_probs = 0.9",
            "unknown key `keep_probs`. Did you mean `keep_prob`",
        ),
        ("epochs = 3.5", "`epochs` must be an int. Received: epochs=3.5"),
        ("epochs = true", "`epochs` must be an int. Received: epochs=True"),
        (
            "keep_prob = '0.9'",
            "`keep_prob` must be a number. Received: keep_prob='0.9'",
        ),
        ("dropblock_groups = 3", "`dropblock_groups` must be a list of ints"),
        (
            "dropblock_groups = [2.5]",
            "`dropblock_groups` must be a list of int",
        ),
        ("jit_compile = 1", "`jit_compile` must be true or false"),
        (
            "keep_prob = 1.1",
            "`keep_prob` must be in [0, 1], the fraction to keep",
        ),
        ("epochs = 0", "`epochs` must be >= 1"),
        ("learning_rate = -1", "`learning_rate` must be > 0"),
        ("learning_rate = nan", "`learning_rate` must be > 0"),
        (
            "learning_rate_drops = [60, 60]",
            "`learning_rate_drops` must be incr",
        ),
        ("learning_rate_drops = [1]", "`learning_rate_drops` must be incr"),
        (
            "schedule = 'quadratic'",
            "`schedule` must be one of constant, linear",
        ),
        ("augmentation = 'flips'", "`augmentation` must be one of none, crop"),
        ("dtype = 'float16'", "`dtype` must be one of float32, mixed_bf"),
        ("strategy = 'tpu'", "`strategy` must be one of default, mirrored"),
        ("std = [0.0]", "`std` must be > 0"),
        ("mean = [nan]", "`mean` must be finite"),
        ("dropblock_groups = [0, -1]", "`dropblock_groups` must be distinct"),
        ("survival_prob = 0.0", "`survival_prob` must be in (0, 1]"),
        ("cutout = -1", "`cutout` must be >= 0"),
        ("label_smoothing = 1.0", "`label_smoothing` must be in [0, 1)"),
        ("epochs = ", "Invalid value"),
        ("epochs = " + "[" * 5000, "brackets are nested too deeply"),
        ("epochs = " + "9" * 5000, "Exceeds the limit (4300 digits)"),
        ("epochs = 9223372036854775808", "a value that TOML can hold: "),
        ("epochs = 0x" + "f" * 5000, "Received: epochs=int that is too long"),
        (
            "momentum = 1" + "0" * 400,
            "`momentum` must be a number. Received: momentum=1000",
        ),
        ("schedule = '" + "é" * 5000 + "'", "éé... (5,002 characters)"),
        ("x" * 100_000 + " = 1", f"unknown key `{'x' * 200}`. Did you mean"),
    ],
    ids=lambda text: text[:30],
)
def test_a_wrong_file_is_one_error_that_names_it(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=re.escape(message)) as error:
        Recipe.from_toml(path)
    assert str(error.value).startswith(f"Recipe {path}: ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no.toml"):
        Recipe.from_toml(tmp_path / "no.toml")


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("epochs", "--set must read key=value. Received: 'epochs'"),
        ("epoch=3", "--set: unknown key `epoch`. Did you mean `epochs`?"),
        (
            "epochs=many",
            "--set: `epochs` must be an int. Received: epochs='many'",
        ),
        (
            "epochs=" + "[" * 5000,
            "`epochs` must be an int. Received: epochs='[",
        ),
        (
            "epochs=" + "9" * 5000,
            "`epochs` must be an int. Received: epochs='9",
        ),
        # The second of two lines would be lost.
        ("epochs=1\nseed = 2", "an int. Received: epochs='1\\nseed = 2'"),
        # A shell passes such characters for bytes that are not UTF-8.
        ("data_dir=/a\udcff", "`data_dir` must be a value that TOML can hold"),
    ],
)
def test_a_wrong_override_names_the_flag(assignment, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        Recipe().override([assignment])


def test_svhn_and_unknown_sets_are_not_augmented():
    for dataset, augmentation in (
        ("cifar10", "crop_flip"),
        ("cifar100:3.0.2", "crop_flip"),
        ("digits", "crop"),  # a mirrored digit is not a digit
        ("imagenet2012", "resized_crop_flip"),
        ("svhn_cropped", "none"),
        ("data/mine.npz", "none"),
    ):
        assert Classification().usual_augmentation(dataset) == augmentation


@pytest.mark.parametrize(
    "drop",
    [
        "learning_rate_drops=[2, 3]",
        "learning_rate_drop_steps=[5]",
        "learning_rate_factor=0.5",
        "reset_momentum=true",
    ],
)
def test_a_cosine_refuses_keys_of_drops(drop):
    cosine = ["learning_rate_schedule=cosine", "learning_rate_drops=[]"]
    resolved = Recipe().override(cosine)  # as plan.settled writes it
    with pytest.raises(RecipeError, match="does not apply"):
        resolved.override([drop])
