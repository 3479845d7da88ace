"""Trained models: loaded by name, folder and address, with what they need."""

import dataclasses
import http.server
import json
import pathlib
import shutil
import sys
import threading
import types
import warnings

import h5py
import keras
import numpy as np
import pytest

from keras_dropblock import data, fitting, models
from keras_dropblock.models import cards, pretrained, weights
from keras_dropblock.recipes import Recipe
from keras_dropblock.workdir import WorkdirError

RECIPE = Recipe(
    model="WRN-10-1",
    dataset="quadrants",
    keep_prob=0.8,
    block_size=3,
    mean=(125.3, 123.0, 113.9),
    std=(63.0, 62.1, 66.7),
)
NAME = "wrn_10_1_quadrants_dropblock"


@pytest.fixture(scope="module")
def model():
    """A network whose batch norms have seen something."""
    keras.utils.set_random_seed(1)
    model = models.from_recipe(RECIPE, (16, 16, 3), 4)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3))
    model(images.astype("float32"), training=True)
    return model


@pytest.fixture
def card_folder(model, tmp_path):
    """`models/<name>`, as publishing writes it, with weights in it."""
    folder = tmp_path / "cards" / NAME
    folder.mkdir(parents=True)
    file = folder / "model.weights.h5"
    model.save_weights(file)
    RECIPE.write(folder / "recipe.toml")
    score = {"mean": 0.75, "std": None}
    metrics = {
        "name": NAME,
        "image_shape": [16, 16, 3],
        "class_names": ["north", "east", "south", "west"],
        "parameters": model.count_params(),
        "n": 1,
        "scores": dict.fromkeys(("accuracy", "top5", "nll", "ece"), score),
        "weights": {
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": None,
        },
        "more": "that the registry does not have",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def registered(card_folder, tmp_path, monkeypatch):
    """The registry has the model; its weights are in a folder of models."""
    card = cards.Card.from_folder(card_folder)
    registry = tmp_path / "published.json"
    registry.write_text(json.dumps({NAME: card.entry}))
    monkeypatch.setattr(cards, "REGISTRY", registry)
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(card_folder.parent))
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    return card


def assert_same(loaded, model):
    for a, b in zip(values(loaded), values(model), strict=True):
        assert np.array_equal(a, b)


def values(model):
    """All weights but DropBlock's, which travel in no file."""
    return [
        keras.ops.convert_to_numpy(variable)
        for variable in model.weights
        if variable.name != "keep_prob"
    ]


def test_a_name_gives_the_model_and_what_travels_with_it(registered, model):
    loaded = models.load(NAME)
    assert_same(loaded, model)
    assert loaded.card.class_names == ("north", "east", "south", "west")
    assert loaded.card.normalise == data.Normalise(RECIPE.mean, RECIPE.std)
    assert loaded.card.recipe == RECIPE
    assert loaded.card.image_shape == (16, 16, 3)
    dropped = [float(v) for v in loaded.weights if v.name == "keep_prob"]
    assert min(dropped) == pytest.approx(0.8)


def test_the_list_has_scores_and_sizes(registered, card_folder):
    size = (card_folder / "model.weights.h5").stat().st_size
    (row,) = models.published().values()
    assert row["dataset"] == "quadrants" and row["bytes"] == size
    assert (row["accuracy"], row["accuracy_std"], row["n"]) == (0.75, None, 1)


def test_builders_take_published_weights(registered, model):
    for of in ("quadrants", NAME):
        plain = models.WRN(
            *(10, 1), num_classes=4, input_shape=(16, 16, 3), weights=of
        )
        assert_same(plain, model)  # they are the same without DropBlock
        assert plain.card == registered
    # The network is fully convolutional: another size of images will do.
    larger = models.WRN(
        *(10, 1), num_classes=4, input_shape=(24, 40, 3), weights=NAME
    )
    assert_same(larger, model)


def test_of_several_the_plain_one_is_taken(registered, tmp_path):
    entry = registered.entry
    cards.REGISTRY.write_text(
        json.dumps({NAME: entry, "wrn_10_1_quadrants": entry})
    )
    assert cards.of_network("quadrants", "WRN-10-1").name == (
        "wrn_10_1_quadrants"
    )
    assert cards.of_network(NAME, "WRN-10-1").name == NAME


def test_weights_of_another_network_are_refused(registered):
    for arguments, message in (
        ((16, 1), "published for WRN-16-1: nothing is"),
        ((10, 1, "B(3,1)"), r"published for WRN-10-1-B\(3,1\): nothing"),
    ):
        with pytest.raises(weights.WeightsError, match=message):
            block = dict(zip(["block"], arguments[2:], strict=False))
            models.WRN(*arguments[:2], **block, weights="quadrants")
    with pytest.raises(weights.WeightsError, match="4 classes. Received: 10."):
        models.WRN(10, 1, weights="quadrants")
    with pytest.raises(weights.WeightsError, match=f"WRN-10-1: {NAME}. Rec"):
        models.WRN(10, 1, weights="cifar10")


_WIDE_50 = "WRN-50-2-bottleneck"


@pytest.mark.parametrize(
    "build, notation",
    [
        (lambda: models.WRN(10, 1, weights="x"), "WRN-10-1"),
        *(
            pytest.param(build, notation, marks=pytest.mark.slow)
            for build, notation in (
                (lambda: models.ResNet(18, weights="x"), "ResNet-18"),
                (lambda: models.ResNet(50, 2, weights="x"), _WIDE_50),
            )
        ),
        (lambda: models.PreActResNet(20, weights="x"), "PreActResNet-20"),
        (lambda: models.CifarResNet(8, weights="x"), "CifarResNet-8"),
    ],
)
def test_every_builder_knows_its_notation(build, notation, monkeypatch):
    asked = []

    def of_network(weights_of, notation):
        asked.append((weights_of, notation))
        raise weights.WeightsError("none")

    monkeypatch.setattr(cards, "of_network", of_network)
    with pytest.raises(weights.WeightsError, match="none"):
        build()
    assert asked == [("x", notation)]


def test_folders_of_cards_runs_and_keras_are_loaded(
    registered, card_folder, model, tmp_path
):
    assert_same(models.load(card_folder), model)
    # A card of a checkout has its weights elsewhere.
    bare = tmp_path / "bare" / NAME
    bare.mkdir(parents=True)
    for file in ("metrics.json", "recipe.toml"):
        shutil.copy(card_folder / file, bare)
    assert_same(models.load(bare), model)

    run = tmp_path / "run"
    run.mkdir()
    RECIPE.write(run / "recipe.toml")
    classes = {"image_shape": [16, 16, 3], "class_names": ["a", "b", "c", "d"]}
    (run / "run.json").write_text(json.dumps(classes))
    with pytest.raises(weights.WeightsError, match="without a finished epoch"):
        models.load(run)
    model.save_weights(run / "model.weights.h5")
    loaded = models.load(run)
    assert_same(loaded, model)
    assert loaded.card.class_names == ("a", "b", "c", "d")
    assert loaded.card.name == "run" and loaded.card.metrics == {}

    model.save(tmp_path / "whole.keras")
    assert_same(models.load(tmp_path / "whole.keras"), model)


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_nothing_in_the_working_directory_hides_a_published_name(
    registered, model, tmp_path, monkeypatch, make
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("quadrants", NAME):
        getattr(here / name, make)()
        plain = models.WRN(
            *(10, 1), num_classes=4, input_shape=(16, 16, 3), weights=name
        )
        assert_same(plain, model)
    assert_same(models.load(NAME), model)


def test_a_path_is_never_a_published_name(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (pathlib.Path(NAME), f"./{NAME}"):
        with pytest.raises(weights.WeightsError, match="must be a folder"):
            models.load(path)
        with pytest.raises(weights.WeightsError, match="It is none"):
            models.WRN(10, 1, weights=path)
    (tmp_path / NAME).mkdir()
    for path in (pathlib.Path(NAME), f"./{NAME}"):
        with pytest.raises(weights.WeightsError, match="which has nothing"):
            models.load(path)


@pytest.mark.parametrize(
    "name", ["a.weights.h5", "a.weights.json", "a.keras", "a.h5"]
)
def test_a_name_with_a_suffix_of_keras_is_a_file(
    model, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    if name.endswith("json"):
        model.save_weights(name, max_shard_size=1)  # GB: one shard, and a map
    elif ".weights" in name:
        model.save_weights(name)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*HDF5 file")
            model.save(name)
    for path in (name, f"./{name}", pathlib.Path(name)):
        loaded = models.WRN(
            *(10, 1),
            num_classes=4,
            input_shape=(16, 16, 3),
            keep_prob=0.8,
            weights=path,
        )
        assert_same(loaded, model)


def test_changed_weights_beside_a_card_are_refused(card_folder):
    file = card_folder / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(weights.WeightsError, match="not the published file"):
        models.load(card_folder)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_url_gives_a_card_and_its_weights(
    card_folder, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(card_folder.parent)
    # Another model of that name here is another model.
    here = tmp_path / "here" / NAME / "model.weights.h5"
    here.parent.mkdir(parents=True)
    here.write_bytes(b"of another model")
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(tmp_path / "here"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{NAME}"
        assert_same(models.load(f"{url}/"), model)
        (cached,) = (tmp_path / "cache").iterdir()
        assert cached.name.startswith(f"{NAME}.")

        cached.unlink()
        (card_folder / "model.weights.h5").write_bytes(b"other")
        with pytest.raises(weights.WeightsError, match="Nothing was kept"):
            models.load(url)
        for wrong in (b'{"name": "../up"}', b"\xff\xfe", b"[]"):
            (card_folder / "metrics.json").write_bytes(wrong)
            with pytest.raises(weights.WeightsError, match="cannot be read"):
                models.load(url)
        (card_folder / "metrics.json").write_bytes(bytes(1_000_001))
        with pytest.raises(weights.WeightsError, match="no part of a card"):
            models.load(url)
        with pytest.raises(weights.WeightsError, match="answers 404"):
            models.load(f"{url}/nowhere")
        assert list((tmp_path / "cache").iterdir()) == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_that_is_a_path_is_refused(card_folder):
    metrics = json.loads((card_folder / "metrics.json").read_text())
    texts = [
        json.dumps({**metrics, "name": "../../up"}),
        (card_folder / "recipe.toml").read_text(),
    ]
    with pytest.raises(
        weights.WeightsError, match="must have a name that is 1 to"
    ):
        cards.Card.from_texts(*texts)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("name", "../../up", "must have a name that is 1 to 100 of a-z"),
        ("name", "a" * 101, "must have a name that is 1 to 100 of a-z"),
        ("image_shape", None, "`image_shape` that is 3 integers >= 1"),
        ("image_shape", [16, 16], "`image_shape` that is 3 integers >= 1"),
        ("image_shape", [16, 0, 3], "`image_shape` that is 3 integers >= 1"),
        ("image_shape", [2**13, 2**13, 3], "of at most 33,554,432 pixels"),
        # Its recipe has a mean and a std of three channels.
        ("image_shape", [16, 16, 10**9], "one number for each of the 1000000"),
        ("class_names", "abc", "`class_names` that is a list of texts"),
        ("class_names", [], "`class_names` that is a list of texts"),
        ("class_names", ["\ud800"], "`class_names` that is a list of texts"),
        ("parameters", True, "`parameters` that is an integer >= 1"),
        ("n", 0, "`n` that is an integer >= 1"),
        ("scores", {"accuracy": {"mean": 1}}, "`scores` that is an object"),
        ("scores", [], "`scores` that is an object with accuracy"),
        (
            "scores",
            dict.fromkeys(("accuracy", "nll", "ece"), {"mean": 0.5}),
            "each with mean and std",
        ),
        ("n", float("nan"), "NaN is no number of JSON"),
        ("weights", [], "`weights` that is an object with sha256"),
        ("weights", {"sha256": "0" * 64}, "`weights` that is an object with"),
    ],
)
def test_a_card_that_is_not_as_it_must_be_is_one_error(
    card_folder, key, value, message
):
    path = card_folder / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {key: value}))
    with pytest.raises(weights.WeightsError, match=message):
        models.load(card_folder)
    del metrics[key]
    path.write_text(json.dumps(metrics))
    with pytest.raises(weights.WeightsError, match=f"must have {key} too"):
        models.load(card_folder)


@pytest.mark.parametrize("file", ["metrics.json", "run.json", "registry"])
@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "must be a JSON object. It cannot be read"),
        (b"[1]", r"must be a JSON object. Received: \[1\]"),
        (b"[" * 100_000, "Its brackets are nested too deeply"),
        (b"9" * 5000, "must be a JSON object. It cannot be read"),
        (b"{}", "must have "),
        (b"\xff", "must be text: "),
    ],
    ids=["empty", "list", "nested", "digits", "no_key", "bytes"],
)
def test_what_is_no_json_object_is_one_error(
    registered, card_folder, file, content, message
):
    if file == "registry":
        if content == b"{}":
            content = b'{"a": {}}'
        cards.REGISTRY.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=message):
            models.load(NAME)
        return
    (card_folder / file).write_bytes(content)
    with pytest.raises(weights.WeightsError, match=message):
        models.load(card_folder)


def test_a_recipe_without_normalization_makes_no_card(card_folder):
    for keep in ("mean", "std"):
        recipe = dataclasses.replace(
            RECIPE, **{key: None for key in ("mean", "std") if key != keep}
        )
        recipe.write(card_folder / "recipe.toml")
        with pytest.raises(weights.WeightsError, match="must have a recipe w"):
            models.load(card_folder)


def test_a_network_larger_than_its_file_is_refused_before_it_is_built(
    card_folder,
):
    path = card_folder / "recipe.toml"
    # 68 million parameters in place of 77 thousand.
    path.write_text(path.read_text().replace("WRN-10-1", "WRN-16-20"))
    with pytest.raises(weights.WeightsError, match="of WRN-16-20, more than"):
        models.load(card_folder)
    # One that is small enough is built, and does not fit.
    path.write_text(path.read_text().replace("WRN-16-20", "WRN-16-1"))
    with pytest.raises(weights.WeightsError, match="another network's"):
        models.load(card_folder)
    path.write_text(path.read_text().replace("WRN-16-1", "WRN-11-1"))
    with pytest.raises(weights.WeightsError, match="`depth` must be 6n"):
        models.load(card_folder)


def test_a_damaged_run_or_a_damaged_model_of_keras_is_one_error(
    model, tmp_path
):
    run, whole = tmp_path / "run", tmp_path / "whole.keras"
    run.mkdir()
    RECIPE.write(run / "recipe.toml")
    info = {"image_shape": [16, 16, 3], "class_names": ["a", "b", "c", "d"]}
    (run / "run.json").write_text(json.dumps(info))
    file = run / "model.weights.h5"
    model.save_weights(file)
    assert_same(fitting.load_run(run)[0], model)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(weights.WeightsError, match="cannot be read as weights"):
        fitting.load_run(run)
    for content in (b"[]", b"{}", b"\xff", b'{"image_shape": 3}'):
        (run / "run.json").write_bytes(content)
        with pytest.raises(WorkdirError, match="is no run.json of a run"):
            fitting.load_run(run)
    model.save(whole)
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(weights.WeightsError, match="whole.keras cannot be rea"):
        models.load(whole)


def test_hugging_face_handles_are_keras_own_work(model, tmp_path, monkeypatch):
    from keras.src.saving import saving_lib

    asked = []

    def snapshot_download(repo_id, **arguments):
        asked.append(repo_id)
        return str(tmp_path / "repository")

    keras.saving.save_model(model, tmp_path / "repository", zipped=False)
    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setattr(saving_lib, "huggingface_hub", hub)
    assert_same(models.load("hf://somebody/a_network"), model)
    assert asked == ["somebody/a_network"]


def test_kaggle_handles_are_fetched_by_kagglehub(
    card_folder, model, monkeypatch
):
    asked = []

    def model_download(handle):
        asked.append(handle)
        return str(card_folder)

    hub = types.SimpleNamespace(model_download=model_download)
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    loaded = models.load("kaggle://somebody/a_network/keras/small")
    assert_same(loaded, model)
    assert loaded.card.name == NAME
    assert asked == ["somebody/a_network/keras/small"]
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match="pip install kagglehub"):
        models.load("kaggle://somebody/a_network/keras/small")


def test_an_unknown_name_names_the_nearest(registered):
    with pytest.raises(weights.WeightsError, match=f"Did you mean '{NAME}'"):
        models.load("wrn_10_1_quadrants")
    assert pretrained.cards.REGISTRY.exists()


def arrays(file):
    """All arrays of an HDF5 file."""
    found = []

    def add(_, item):
        if isinstance(item, h5py.Dataset):
            found.append(item[()])

    with h5py.File(file) as opened:
        opened.visititems(add)
    return found


@pytest.mark.parametrize("name", sorted(cards.read_registry()))
def test_a_published_model_has_its_card_and_every_array_of_its_file(name):
    """Of what travels with the checkout; nothing is fetched."""
    card = cards.read_registry()[name]
    if card.metrics["weights"]["url"] is not None:
        pytest.skip("its weights are not in the repository")
    loaded = models.load(name)
    assert loaded.card == card and card.name == name
    used = loaded.card.normalise
    constants = data.normalise.published(card.recipe.dataset)
    assert constants in (None, (used.mean, used.std))
    assert loaded.output.shape == (None, len(card.class_names))

    def content(array):
        return array.shape, array.astype("float32").tobytes()

    stored = arrays(card.find_weights())
    assert sorted(map(content, values(loaded))) == sorted(map(content, stored))
