"""Loading trained models by name, folder and URL, with their cards."""

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

import add_card
import small_runs as runs
from keras_dropblock import data, hub, list_models, load, models
from keras_dropblock.errors import MissingExtraError, WorkdirError
from keras_dropblock.hub import registry, weights
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.runs.run import Run
from keras_dropblock.training import evaluation
from keras_dropblock.training.recipe import Recipe

NAME = "wrn_10_1_quadrants_dropblock"
CLASSES = ("north", "east", "south", "west")
CARD = dataclasses.replace(
    runs.card((16, 16, 3), CLASSES),
    name=NAME,
    network="WRN-10-1",
    dataset="quadrants",
    builder="WRN",
    arguments={
        "depth": 10,
        "width": 1,
        "input_shape": [16, 16, 3],
        "num_classes": 4,
        "keep_prob": 0.8,
        "block_size": 3,
    },
    default=True,
)


@pytest.fixture(scope="module")
def model():
    """A network whose batch statistics differ from their initial values."""
    keras.utils.set_random_seed(1)
    model = CARD.build()
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3))
    model(images.astype("float32"), training=True)
    return model


@pytest.fixture
def card_folder(model, tmp_path):
    """`models/<name>` as publishing writes it, with its weights."""
    folder = tmp_path / "cards" / NAME
    folder.mkdir(parents=True)
    file = folder / "model.weights.h5"
    model.save_weights(file)
    score = {"mean": 0.75, "std": None}
    metrics = {
        "parameters": model.count_params(),
        "n": 1,
        "scores": dict.fromkeys(("accuracy", "top5", "nll", "ece"), score),
        "weights": {
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": None,
        },
    }
    dataclasses.replace(CARD, metrics=metrics).write(folder)
    return folder


@pytest.fixture
def registered(card_folder, tmp_path, monkeypatch):
    """A registry with the model, whose weights are in a folder of models."""
    card = hub.Card.from_folder(card_folder)
    path = tmp_path / "published.json"
    path.write_text(json.dumps({NAME: card.to_dict()}))
    monkeypatch.setattr(registry, "REGISTRY", path)
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(card_folder.parent))
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    return card


def assert_same(loaded, model):
    for a, b in zip(values(loaded), values(model), strict=True):
        assert np.array_equal(a, b)


def same_but_for_arguments(card, other):
    """Whether cards are equal, except for the arguments of the builder."""
    return dataclasses.replace(card, arguments=other.arguments) == other


def values(model):
    """All weights but DropBlock's, which no file contains."""
    return [
        keras.ops.convert_to_numpy(variable)
        for variable in model.weights
        if variable.name != "keep_prob"
    ]


def test_a_name_loads_the_model_and_its_card(registered, model):
    loaded = load(NAME)
    assert_same(loaded, model)
    assert loaded.card == registered
    assert loaded.card.class_names == CLASSES
    assert loaded.card.image_shape == (16, 16, 3)
    pixels = np.full((1, 16, 16, 3), 200, "uint8")
    expected = (200 - np.array(runs.MEAN)) / runs.STD
    assert loaded.card.normalize(pixels)[0, 0, 0] == pytest.approx(expected)
    dropped = [float(v) for v in loaded.weights if v.name == "keep_prob"]
    assert min(dropped) == pytest.approx(0.8)


def test_the_list_has_scores_and_sizes(registered, card_folder):
    size = (card_folder / "model.weights.h5").stat().st_size
    (row,) = list_models().values()
    assert row["dataset"] == "quadrants" and row["bytes"] == size
    assert (row["accuracy"], row["accuracy_std"], row["n"]) == (0.75, None, 1)


def test_builders_take_published_weights(registered, model):
    for of in ("quadrants", NAME):
        plain = models.WRN(
            10, 1, num_classes=4, input_shape=(16, 16, 3), weights=of
        )
        assert_same(plain, model)  # DropBlock adds no weights
        assert same_but_for_arguments(plain.card, registered)
    # The network is fully convolutional, so it accepts other image sizes.
    larger = models.WRN(
        10, 1, num_classes=4, input_shape=(24, 40, 3), weights=NAME
    )
    assert_same(larger, model)


def test_a_dataset_name_loads_the_model_marked_as_default(registered):
    other = dataclasses.replace(registered, name="wrn", default=False)
    registry.REGISTRY.write_text(
        json.dumps({"wrn": other.to_dict(), NAME: registered.to_dict()})
    )
    assert registry.for_network("quadrants", "WRN-10-1").name == NAME
    assert registry.for_network("wrn", "WRN-10-1").name == "wrn"
    other = dataclasses.replace(other, default=True)
    registry.REGISTRY.write_text(
        json.dumps({"wrn": other.to_dict(), NAME: registered.to_dict()})
    )
    with pytest.raises(weights.WeightsError, match="Only one model"):
        registry.for_network("quadrants", "WRN-10-1")


def test_a_name_and_a_builder_give_the_same_network(registered):
    by_builder = models.WRN(
        10, 1, num_classes=4, input_shape=(16, 16, 3), weights="quadrants"
    )
    assert_same(load(NAME), by_builder)
    assert same_but_for_arguments(load(NAME).card, by_builder.card)


def test_weights_of_another_network_are_refused(registered):
    for arguments, message in (
        ((16, 1), "published for WRN-16-1: there are none"),
        ((10, 1, "B(3,1)"), r"published for WRN-10-1-B\(3,1\): there"),
    ):
        with pytest.raises(weights.WeightsError, match=message):
            block = dict(zip(["block"], arguments[2:], strict=False))
            models.WRN(*arguments[:2], **block, weights="quadrants")
    with pytest.raises(weights.WeightsError, match="4 outputs. Received: 10."):
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

    def for_network(weights, network):
        asked.append((weights, network))
        raise hub.registry.WeightsError("none")

    monkeypatch.setattr(registry, "for_network", for_network)
    with pytest.raises(weights.WeightsError, match="none"):
        build()
    assert asked == [("x", notation)]


def test_folders_of_cards_runs_and_keras_are_loaded(
    registered, card_folder, model, tmp_path
):
    assert_same(load(card_folder), model)
    # The weights of a card in a checkout are in another folder.
    bare = tmp_path / "bare" / NAME
    bare.mkdir(parents=True)
    shutil.copy(card_folder / "card.json", bare)
    assert_same(load(bare), model)

    run = tmp_path / "run"
    run.mkdir()
    dataclasses.replace(CARD, name="run", class_names=tuple("abcd")).write(run)
    with pytest.raises(weights.WeightsError, match="without a finished epoch"):
        load(run)
    model.save_weights(run / "model.weights.h5")
    loaded = load(run)
    assert_same(loaded, model)
    assert loaded.card.class_names == ("a", "b", "c", "d")
    assert loaded.card.name == "run" and loaded.card.metrics == {}

    old = tmp_path / "old"
    old.mkdir()
    (old / "recipe.toml").write_text("")
    with pytest.raises(weights.WeightsError, match="tools/add_card.py"):
        load(old)

    model.save(tmp_path / "whole.keras")
    whole = load(tmp_path / "whole.keras")
    assert_same(whole, model)
    assert whole.card == CARD


def test_a_new_head_leaves_the_rest_as_it_was(registered, model):
    loaded = load(NAME, num_classes=7)
    assert loaded.output.shape == (None, 7)
    assert loaded.card.class_names == tuple("0123456")
    assert loaded.card.metrics == {} and not loaded.card.default
    body, head = loaded.layers[:-1], loaded.layers[-1]
    for layer, before in zip(body, model.layers[:-1], strict=True):
        for a, b in zip(layer.weights, before.weights, strict=True):
            assert a.name == "keep_prob" or np.array_equal(a, b)
    assert head.kernel.shape == (64, 7)


def test_a_new_head_keeps_inserted_dropblock(registered, tmp_path):
    plain = load(NAME)
    inserted = models.insert_dropblock(
        plain, "group[12]", keep_prob=0.8, block_size=3
    )
    # Also after fine-tuning: with another head and other names.
    inserted.get_layer("group1_block1").trainable = False
    inserted.card = dataclasses.replace(CARD, class_names=tuple("wxyz"))
    inserted.save(tmp_path / "inserted.keras")
    loaded = load(tmp_path / "inserted.keras", num_classes=7)
    assert loaded.output.shape == (None, 7)
    assert loaded.card.class_names == tuple("0123456")
    assert loaded.card.arguments["num_classes"] == 7
    found = [layer.name for layer in dropblock_layers(loaded)]
    assert {"group1_dropblock", "group2_dropblock"} <= {*found}
    assert found == [x.name for x in dropblock_layers(inserted)]
    body = keras.Model(loaded.input, loaded.get_layer("pool").output)
    before = keras.Model(plain.input, plain.get_layer("pool").output)
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    assert np.array_equal(body(x), before(x))
    # The result is saved and loaded like any other model.
    loaded.save(tmp_path / "again.keras")
    again = load(tmp_path / "again.keras", num_classes=3)
    assert again.output.shape == (None, 3)
    assert len(dropblock_layers(again)) == len(found)


def test_a_fine_tuned_model_takes_a_new_head(registered, tmp_path):
    tuned = load(NAME, num_classes=7)
    tuned.layers[1].trainable = False
    tuned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3))
    tuned.fit(x, np.arange(8) % 7, verbose=0)
    tuned.save(tmp_path / "tuned.keras")
    loaded = load(tmp_path / "tuned.keras", num_classes=3)
    assert loaded.output.shape == (None, 3)
    for old, new in zip(tuned.layers[:-1], loaded.layers[:-1], strict=True):
        for a, b in zip(old.weights, new.weights, strict=True):
            assert a.name == "keep_prob" or np.array_equal(a, b), a.path


def test_a_model_with_its_preprocessing_takes_pixels(registered, model):
    whole = load(NAME, include_preprocessing=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), "uint8")
    logits = model.predict(CARD.normalize(pixels), verbose=0)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    found = whole.predict(pixels.astype("float32"), verbose=0)
    assert np.allclose(found, expected, atol=1e-6)


def test_a_model_without_a_card_takes_no_new_head_or_preprocessing(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(
        tmp_path / "x.keras"
    )
    for asked in ({"num_classes": 3}, {"include_preprocessing": True}):
        with pytest.raises(weights.WeightsError, match="need a model with a c"):
            load(tmp_path / "x.keras", **asked)


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_files_in_the_working_directory_do_not_hide_a_published_name(
    registered, model, tmp_path, monkeypatch, make
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("quadrants", NAME):
        getattr(here / name, make)()
        plain = models.WRN(
            10, 1, num_classes=4, input_shape=(16, 16, 3), weights=name
        )
        assert_same(plain, model)
    assert_same(load(NAME), model)


def test_a_path_is_never_a_published_name(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (pathlib.Path(NAME), f"./{NAME}"):
        with pytest.raises(weights.WeightsError, match="must be a folder"):
            load(path)
        with pytest.raises(weights.WeightsError, match="There is no such file"):
            models.WRN(10, 1, weights=path)
    (tmp_path / NAME).mkdir()
    for path in (pathlib.Path(NAME), f"./{NAME}"):
        with pytest.raises(weights.WeightsError, match="It contains nothing"):
            load(path)


@pytest.mark.parametrize(
    "name", ["a.weights.h5", "a.weights.json", "a.keras", "a.h5"]
)
def test_a_name_with_a_suffix_of_keras_is_a_file(
    model, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    if name.endswith("json"):
        model.save_weights(
            name, max_shard_size=1
        )  # GB: one shard and its index
    elif ".weights" in name:
        model.save_weights(name)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*HDF5 file")
            model.save(name)
    for path in (name, f"./{name}", pathlib.Path(name)):
        loaded = models.WRN(
            10,
            1,
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
        load(card_folder)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_url_gives_a_card_and_its_weights(
    card_folder, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(card_folder.parent)
    # The local model of that name must not be used.
    here = tmp_path / "here" / NAME / "model.weights.h5"
    here.parent.mkdir(parents=True)
    here.write_bytes(b"of another model")
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(tmp_path / "here"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{NAME}"
        assert_same(load(f"{url}/"), model)
        (cached,) = (tmp_path / "cache").iterdir()
        assert cached.name.startswith(f"{NAME}.")

        cached.unlink()
        (card_folder / "model.weights.h5").write_bytes(b"other")
        with pytest.raises(weights.WeightsError, match="Nothing was kept"):
            load(url)
        for wrong in (b'{"name": "../up"}', b"\xff\xfe", b"[]"):
            (card_folder / "card.json").write_bytes(wrong)
            with pytest.raises(weights.WeightsError, match="card.json"):
                load(url)
        (card_folder / "card.json").write_bytes(bytes(1_000_001))
        with pytest.raises(weights.WeightsError, match="it is not a card"):
            load(url)
        with pytest.raises(
            weights.WeightsError, match="Cannot download .*: 404"
        ):
            load(f"{url}/nowhere")
        assert list((tmp_path / "cache").iterdir()) == []
    finally:
        server.shutdown()
        server.server_close()


def test_cards_with_missing_or_impossible_values_are_refused(card_folder):
    good = json.loads((card_folder / "card.json").read_text())
    for changes, message in (
        ({"name": "../../up"}, "`name` must be 1 to 100 characters of a-z"),
        ({"name": None}, "`name` must be a text"),
        ({"builder": "VGG"}, "`builder` must be one of WRN"),
        ({"task": "driving"}, "`task` must be one of"),
        ({"class_names": [1, 2]}, "`class_names` must be a list of texts"),
        ({"preprocessing": {"mean": []}}, "`preprocessing`"),
        ({"more": 1}, "unknown keys: 'more'"),
        (
            {"metrics": {"weights": {"sha256": "0"}}},
            "`metrics.parameters` must be",
        ),
    ):
        with pytest.raises(weights.WeightsError, match=message):
            hub.Card.from_dict({**good, **changes})
    for key in ("name", "preprocessing", "class_names"):
        less = {k: v for k, v in good.items() if k != key}
        with pytest.raises(weights.WeightsError, match=f"missing keys: {key}"):
            hub.Card.from_dict(less)


def changed(content, path, value):
    """A copy of a dict with the value at the path `a.b` replaced."""
    first, _, rest = path.partition(".")
    if rest:
        value = changed(content[first], rest, value)
    return {**content, first: value}


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("name", "../../up", "`name` must be 1 to 100 characters of a-z"),
        ("name", "a" * 101, "`name` must be 1 to 100 characters of a-z"),
        ("preprocessing.image_size", None, "2 integers >= 1"),
        ("preprocessing.image_size", [16], "2 integers >= 1"),
        ("preprocessing.image_size", [16, 0], "2 integers >= 1"),
        ("preprocessing.image_size", [2**13] * 2, "at most 33,554,432 pixels"),
        ("preprocessing.mean", [], "a list of numbers, one for each channel"),
        ("preprocessing.std", [1, 1, 10**400], "a list of numbers, one for"),
        ("preprocessing.std", [1.0, 1.0], "one number for each channel"),
        ("arguments.input_shape", [16, 16, 10**9], "and the 3 channels of"),
        ("arguments.input_shape", [16, 0, 3], "height and width, integers"),
        ("arguments.depth", "16", "cannot be built"),
        ("arguments.bottles", 3, "cannot be built.*bottles"),
        ("class_names", "abc", "`class_names` must be a list of texts"),
        ("class_names", ["\ud800"], "`class_names` must be a list of texts"),
        ("metrics.parameters", True, "`metrics.parameters` must be an integer"),
        ("metrics.n", 0, "`metrics.n` must be an integer >= 1"),
        ("metrics.scores", {"accuracy": {"mean": 1}}, "each with mean and std"),
        ("metrics.scores", [], "`metrics.scores` must be an object"),
        ("metrics.scores", {}, "an object with accuracy, top5, nll, ece"),
        ("metrics.scores", {"nll": {"mean": 0.5}}, "each with mean and std"),
        ("metrics.n", float("nan"), "NaN is not a JSON number"),
        ("metrics.weights", [], "an object with sha256"),
        ("metrics.weights", {"sha256": "0" * 64}, "an object with sha256"),
    ],
)
def test_a_card_that_is_not_as_it_must_be_raises_one_error(
    card_folder, key, value, message
):
    path = card_folder / "card.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(changed(content, key, value)))
    with pytest.raises(weights.WeightsError, match=message) as error:
        load(card_folder)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("file", ["card.json", "registry"])
@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "must be a JSON object. It cannot be read"),
        (b"[1]", r"must be a JSON object. Received: \[1\]"),
        (b"[" * 100_000, "Its brackets are nested too deeply"),
        (b"9" * 5000, "must be a JSON object. It cannot be read"),
        (b"{}", "missing keys: name"),
        (b"\xff", "cannot be read"),
    ],
    ids=["empty", "list", "nested", "digits", "no_key", "bytes"],
)
def test_a_file_that_is_not_a_json_object_raises_one_error(
    registered, card_folder, file, content, message
):
    if file == "registry":
        if content == b"{}":
            content = b'{"a": {}}'
        registry.REGISTRY.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=message):
            load(NAME)
        return
    (card_folder / file).write_bytes(content)
    with pytest.raises(weights.WeightsError, match=message):
        load(card_folder)


def test_a_network_larger_than_its_file_is_refused_before_it_is_built(
    card_folder,
):
    path = card_folder / "card.json"
    content = json.loads(path.read_text())

    def load_with(**arguments):
        card = {**content, "arguments": {**content["arguments"], **arguments}}
        path.write_text(json.dumps(card))
        return load(card_folder)

    # 68 million parameters instead of 77 thousand.
    for arguments in ({"depth": 16, "width": 20}, {"num_classes": 10**8}):
        with pytest.raises(weights.WeightsError, match="of WRN-10-1, more tha"):
            load_with(**arguments)
    # This network is small enough to be built, but the weights do not fit.
    with pytest.raises(weights.WeightsError, match="belongs to another net"):
        load_with(depth=16)
    with pytest.raises(weights.WeightsError, match="`depth` must be 6n"):
        load_with(depth=11)


def test_a_damaged_run_or_keras_file_raises_one_error(model, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole.keras"
    run.mkdir()
    CARD.write(run)
    Recipe(mean=CARD.preprocessing.mean).write(run / "recipe.toml")
    (run / "run.json").write_text('{"sessions": []}')
    file = run / "model.weights.h5"
    model.save_weights(file)
    assert_same(evaluation.load_run(run)[0], model)
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(weights.WeightsError, match="cannot be read as weights"):
        evaluation.load_run(run)
    for content in (b"[]", b"", b"\xff", b"3"):
        (run / "run.json").write_bytes(content)
        with pytest.raises(WorkdirError, match="run.json .*Restore the file"):
            Run(run)
    model.save(whole)
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(weights.WeightsError, match="whole.keras cannot be rea"):
        load(whole)


def test_kaggle_handles_are_downloaded_by_kagglehub(
    card_folder, model, monkeypatch
):
    asked = []

    def model_download(handle):
        asked.append(handle)
        return str(card_folder)

    client = types.SimpleNamespace(model_download=model_download)
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    loaded = load("kaggle://somebody/a_network/keras/small")
    assert_same(loaded, model)
    assert loaded.card.name == NAME
    assert asked == ["somebody/a_network/keras/small"]
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match="pip install kagglehub"):
        load("kaggle://somebody/a_network/keras/small")


def test_the_error_for_an_unknown_name_suggests_the_nearest(registered):
    with pytest.raises(weights.WeightsError, match=f"Did you mean '{NAME}'"):
        load("wrn_10_1_quadrants")


def arrays(file):
    """All arrays of an HDF5 file."""
    found = []

    def add(_, item):
        if isinstance(item, h5py.Dataset):
            found.append(item[()])

    with h5py.File(file) as opened:
        opened.visititems(add)
    return found


@pytest.mark.parametrize("name", sorted(registry.cards()))
def test_a_published_model_has_its_card_and_every_array_of_its_file(name):
    """Only for weights in the checkout: nothing is downloaded."""
    card = registry.cards()[name]
    if card.metrics["weights"]["url"] is not None:
        pytest.skip("its weights are not in the repository")
    loaded = load(name)
    assert loaded.card == card and card.name == name
    used = card.preprocessing
    constants = data.published_statistics(card.dataset)
    assert constants in (None, (used.mean, used.std))
    assert loaded.output.shape == (None, len(card.class_names))

    def content(array):
        return array.shape, array.astype("float32").tobytes()

    stored = arrays(weights.of_card(card))
    assert sorted(map(content, values(loaded))) == sorted(map(content, stored))


def test_the_card_of_a_builder_with_weights_describes_its_network(registered):
    model = models.WRN(
        10,
        1,
        weights=NAME,
        input_shape=(24, 20, 3),
        num_classes=4,
        keep_prob=0.7,
        block_size=2,
    )
    assert model.card.metrics == registered.metrics
    built = model.card.build()
    assert built.input.shape == model.input.shape
    kept = [layer.final_keep_prob for layer in dropblock_layers(built)]
    assert kept == [x.final_keep_prob for x in dropblock_layers(model)]
    assert min(kept) == 0.7
    assert hub.with_new_head(model, 7).output.shape == (None, 7)


def test_a_card_does_not_import_a_module(card_folder, tmp_path, monkeypatch):
    (tmp_path / "unknown_task.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    content = json.loads((card_folder / "card.json").read_text())
    with pytest.raises(weights.WeightsError, match="import unknown_task first"):
        hub.Card.from_dict({**content, "task": "unknown_task:Task"})


def test_a_run_of_version_0_1_gets_a_card_and_loads(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    # 0.1 had neither `task` nor `images`.
    (run / "recipe.toml").write_text(
        'model = "WRN-10-1"\ndataset = "quadrants.npz"\nkeep_prob = 0.8\n'
        f"block_size = 3\nmean = {[*runs.MEAN]}\nstd = {[*runs.STD]}\n"
    )
    info = {
        "image_shape": [16, 16, 3],
        "class_names": CLASSES,
        "training_images": 100,
        "sessions": [],
    }
    (run / "run.json").write_text(json.dumps(info))
    scores = {"accuracy": 0.5, "top5": 1.0, "nll": 1.2, "ece": 0.1}
    (run / "metrics.json").write_text(json.dumps({**scores, "images": 43}))
    model.save_weights(run / "model.weights.h5")
    add_card.card_of(run).write(run)
    loaded = load(run)
    assert_same(loaded, model)
    assert loaded.card.class_names == CLASSES
    assert loaded.card.preprocessing == CARD.preprocessing
    found = loaded.card.metrics["scores"]
    assert {name: found[name]["mean"] for name in scores} == scores
    assert Run(run).training_images == 100
