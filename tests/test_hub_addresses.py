"""Weights of others by address, from a hub on the loopback interface."""

import json
import os
import shutil

import keras
import numpy as np
import pytest

from keras_dropblock import data, hub, load, models, predict
from keras_dropblock.errors import MissingExtraError, WeightsError
from keras_dropblock.hub import contents, timm
from keras_dropblock.models import torch_weights
from loopback_hub import serving

pytest.importorskip("huggingface_hub")
safetensors = pytest.importorskip("safetensors.numpy")
pytestmark = [
    pytest.mark.tensorflow_only,
    # huggingface_hub 2.4 uploads with a deprecated argument of its client.
    pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning"),
]

NAME = "timm/resnet18.tv_in1k"
CONFIG = {
    "architecture": "resnet18",
    "num_classes": 5,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "tv_in1k",
        "custom_load": False,
        "input_size": [3, 32, 48],
        "test_input_size": [3, 64, 64],
        "interpolation": "bicubic",
        "crop_pct": 0.5,
        "test_crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 5,
        "license": "cc-by-nc-4.0",
    },
    "label_names": ["ant", "bee", "cat", "dog", "eel"],
}


def changed(**changes):
    """timm's config with changes; `pretrained_cfg` is merged."""
    settings = CONFIG["pretrained_cfg"] | changes.pop("settings", {})
    return json.dumps(CONFIG | {"pretrained_cfg": settings} | changes).encode()


def tensors_of(model):
    """The weights of a network under Torch's names, in Torch's order."""
    result = {}
    for name, variable in torch_weights._places(model).items():
        value = keras.ops.convert_to_numpy(variable)
        axes = (3, 2, 0, 1) if value.ndim == 4 else range(value.ndim)[::-1]
        result[name] = np.ascontiguousarray(value.transpose(axes))
    return result


@pytest.fixture(scope="module")
def published():
    """(network with random weights, files of its repository)."""
    keras.utils.set_random_seed(1)
    model = models.ResNet(18, num_classes=5, input_shape=(64, 64, 3))
    for variable in model.weights:
        noise = keras.random.uniform(variable.shape, 0.5, 1.5, seed=2)
        variable.assign(variable + 0.2 * (noise - 1.0))
    tensors = tensors_of(model)
    tensors["bn1.num_batches_tracked"] = np.int64(7)[None]
    return model, {
        "config.json": changed(),
        "model.safetensors": safetensors.save(tensors),
        "README.md": b"# ResNet-18",
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(small network with a card of this package, files of its repository)."""
    card = load("wrn_16_1_cifar10_dropblock").card
    folder = tmp_path_factory.mktemp("small")
    card = hub.Card(
        "small",
        card.preprocessing,
        card.class_names,
        network="WRN-10-1",
        builder="WRN",
        arguments={"depth": 10, "width": 1},
        license="MIT",
    )
    model = card.build()
    model.save_weights(folder / "model.weights.h5")
    card.write(folder)
    return model, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server():
    with serving() as (repositories, address):
        yield repositories, address


@pytest.fixture
def loopback(server, monkeypatch, tmp_path):
    """The hub, as the only one that huggingface_hub knows, and a new cache."""
    from huggingface_hub import constants

    repositories, address = server
    repositories.clear()
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", repositories.token)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return repositories


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def licenses():
    contents.show_license.cache_clear()


def images(model, count=3):
    shape = models.image_shape(model)
    return np.random.default_rng(0).normal(size=(count, *shape))


def assert_same(a, b):
    x = images(b).astype("float32")
    assert np.array_equal(a.predict(x, verbose=0), b.predict(x, verbose=0))


def assert_clean(cache):
    """The cache has neither partial files nor weights."""
    assert not [*cache.rglob("*.incomplete")]
    assert not [
        path
        for path in cache.rglob("*")
        if path.suffix in (".h5", ".safetensors")
        or (path.parent.name == "blobs" and path.stat().st_size > 100_000)
    ]


# --- timm's format


def test_a_network_of_timm_is_loaded_with_its_evaluation(
    loopback, published, caplog
):
    model, files = published
    commit = loopback.add(NAME, files)
    found = load(f"hf://{NAME}")
    assert_same(found, model)
    card = found.card
    assert card.name == "resnet18.tv_in1k" and card.network == "ResNet-18"
    assert card.class_names == ("ant", "bee", "cat", "dog", "eel")
    assert card.license == "cc-by-nc-4.0"
    assert card.origin == f"hf://{NAME}@{commit}"
    of = card.preprocessing
    assert of.image_size == (64, 64) and of.crop_fraction == 0.95
    assert (of.interpolation, of.framing) == ("bicubic", "resize_crop")
    assert np.allclose(of.mean, (123.675, 116.28, 103.53))
    assert np.allclose(of.std, (58.395, 57.12, 57.375))
    pixels = np.zeros((80, 100, 3), "uint8")
    assert len(predict(found, [pixels], top=2)[0]) == 2

    # Later, everything comes from the cache, and the license is not repeated.
    loopback.requests.clear()
    pretrained = models.ResNet(
        18,
        num_classes=5,
        input_shape=(64, 64, 3),
        keep_prob=0.9,
        weights=f"hf://{NAME}",
    )
    assert_same(pretrained, model)
    assert pretrained.card.origin == card.origin
    assert loopback.downloaded() == []
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "license" in line] == [
        f"hf://{NAME}: the license of these weights is cc-by-nc-4.0."
    ]


def test_a_local_folder_or_file_works_the_same(published, tmp_path):
    model, files = published
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = load(tmp_path)
    assert_same(found, model)
    assert_same(load(tmp_path / "model.safetensors"), model)
    # The license stays with a new head and with a saved model.
    found = load(tmp_path, num_classes=3)
    found.save(tmp_path / "x.keras")
    card = load(tmp_path / "x.keras").card
    assert card.license == "cc-by-nc-4.0" and found.output.shape[1] == 3
    assert card.preprocessing.framing == "resize_crop"


def test_a_file_alone_has_no_license(published, tmp_path):
    model, files = published
    path = tmp_path / "resnet18.safetensors"
    path.write_bytes(files["model.safetensors"])
    found = load(path)  # 5 classes: the preprocessing is not known
    assert found.card is None and found.output.shape == (None, 5)
    for a, b in zip(found.weights, model.weights, strict=True):
        assert np.array_equal(a, b)


def test_a_file_of_imagenet_gets_torchvisions_preprocessing(tmp_path, caplog):
    model = models.ResNet(18, 0.25)
    safetensors.save_file(tensors_of(model), tmp_path / "a.safetensors")
    card = load(tmp_path / "a.safetensors").card
    assert card.license == "unknown"
    assert card.arguments["width"] == 0.25
    assert card.preprocessing.framing == "resize_crop"
    assert card.class_names[207] == "golden retriever"
    assert "a has no config.json" in caplog.text


def test_the_names_of_imagenet_are_in_the_order_of_the_logits():
    names = timm.imagenet_classes()
    assert len({*names}) == 1000
    assert (names[0], names[281], names[817], names[999]) == (
        "tench",
        "tabby",
        "sports car",
        "toilet tissue",
    )
    config = json.loads(changed(num_classes=1000, label_names=None))
    assert timm.card(config, "x").class_names == names


@pytest.mark.parametrize(
    "config, message",
    [
        (changed(architecture="resnet50d"), "nearest is resnet50, but"),
        (changed(architecture=["resnet50"]), "`architecture` must be one of"),
        (changed(num_classes=0), "`num_classes` is 0.*have no head"),
        (changed(num_classes=4), "one name for each of the 4 classes.*: 5 nam"),
        (changed(num_classes=True), "`num_classes` must be an integer"),
        (changed(model_args={"stem_width": 32}), "must not change the network"),
        (changed(settings={"interpolation": "random"}), "bicubic.*'random'"),
        (
            changed(settings={"crop_mode": "middle"}),
            "must be one of center, sq",
        ),
        (changed(settings={"test_crop_pct": 1.5}), r"must be in \(0, 1\]"),
        (changed(settings={"mean": [0.5]}), "list of 3 numbers"),
        (changed(settings={"std": "small"}), "`std` must be a list of 3"),
        (changed(settings={"test_input_size": [3, 64]}), "must be .channels"),
        (b'{"architecture": "resnet18"}', "missing keys: input_size"),
        (b'{"architectures": ["ResNet"]}', "It has the keys 'architectures"),
        (b"{", "must be a JSON object"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_config_that_cannot_be_used_stops_before_the_weights(
    loopback, cache, config, message
):
    loopback.add(NAME, {"config.json": config, "model.safetensors": b"?"})
    with pytest.raises(WeightsError, match=message) as error:
        load(f"hf://{NAME}")
    assert "\n" not in str(error.value)
    assert_clean(cache)


def test_tensors_that_do_not_fit_are_listed(published, tmp_path):
    tensors = safetensors.load(published[1]["model.safetensors"])
    del tensors["layer4.1.bn2.bias"]
    tensors["layer1.0.se.fc1.weight"] = np.zeros(3, "float32")
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(changed())
    with pytest.raises(WeightsError) as error:
        load(tmp_path)
    assert "1 missing: layer4.1.bn2.bias" in str(error.value)
    assert "1 unexpected: layer1.0.se.fc1.weight" in str(error.value)


def test_weights_of_another_network_are_refused(loopback, published):
    loopback.add(NAME, published[1])
    with pytest.raises(WeightsError, match="must be of ResNet-50.*ResNet-18"):
        models.ResNet(50, weights=f"hf://{NAME}")
    with pytest.raises(WeightsError, match="need 5 outputs.*num_classes=..."):
        models.ResNet(18, weights=f"hf://{NAME}")


# --- our card, and Keras's config


def test_a_model_of_this_package_is_loaded_from_its_card(loopback, small):
    model, files = small
    loopback.add("me/small", files)
    found = load("hf://me/small")
    assert_same(found, model)
    assert found.card.license == "MIT"


def test_a_revision_is_a_commit_or_a_branch(loopback, small):
    model, files = small
    first = loopback.add("me/twice", files)
    loopback.add("me/twice", {"config.json": b"{}"})
    assert_same(load(f"hf://me/twice@{first}"), model)
    with pytest.raises(WeightsError, match="It has the keys"):
        load("hf://me/twice@main")


def test_a_model_that_keras_saved_is_loaded(loopback, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "plain", zipped=False)
    saved = [path for path in (tmp_path / "plain").iterdir() if path.is_file()]
    loopback.add("me/plain", {path.name: path.read_bytes() for path in saved})
    found = load("hf://me/plain")
    for a, b in zip(found.weights, model.weights, strict=True):
        assert np.array_equal(a, b)


# --- what can go wrong on the way


@pytest.mark.parametrize(
    "address, message",
    [
        ("hf://me/absent", "There is no repository hf://me/absent.*log in"),
        ("hf://me/small@v9", "has no revision 'v9'. Leave out @v9"),
        ("hf://me/secret", "needs permission. Accept its terms"),
        ("hf://me/empty", "has none of the files card.json, config.json"),
        ("hf://small", "must be hf://owner/name or"),
        ("hf://me/small/model.keras", "must be hf://owner/name or"),
        ("hf://me/../small", "must be hf://owner/name or"),
    ],
)
def test_an_address_without_a_model_is_an_error(
    loopback, small, cache, address, message
):
    loopback.add("me/small", small[1])
    loopback.add("me/secret", small[1])
    loopback.add("me/empty", {"README.md": b""})
    loopback.gated.add("me/secret")
    with pytest.raises(WeightsError, match=message) as error:
        load(address)
    assert "\n" not in str(error.value)
    assert_clean(cache)


def test_an_interrupted_download_is_resumed(loopback, small, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    model, files = small
    loopback.add("me/small", files)
    loopback.cut, loopback.cuts = 50_000, 1
    assert_same(load("hf://me/small"), model)
    assert len([path for path in loopback.downloaded() if "cdn" in path]) == 2


@pytest.mark.parametrize(
    "fault, message",
    [
        ("shorten", "Cannot download model.weights.h5.*Nothing was kept"),
        ("flip", "is damaged: its SHA-256.*deleted from the cache"),
    ],
)
def test_a_truncated_or_damaged_download_is_not_kept(
    loopback, small, cache, fault, message
):
    model, files = small
    loopback.add("me/small", files)
    loopback.cut, loopback.cuts = 50_000, int(fault == "shorten")
    setattr(loopback, fault, True)
    with pytest.raises(WeightsError, match=message):
        load("hf://me/small")
    assert_clean(cache)
    setattr(loopback, fault, False)
    assert_same(load("hf://me/small"), model)


def test_a_cached_file_may_be_a_link_into_a_shared_store(
    loopback, small, cache
):
    model, files = small
    loopback.add("me/small", files)
    load("hf://me/small")
    (file,) = cache.rglob("model.weights.h5")
    blob = file.parent / os.readlink(file)
    shared = cache / ("0" * 64)  # not a SHA-256, but as long
    shutil.move(blob, shared)
    blob.symlink_to(shared)
    loopback.requests.clear()
    assert_same(load("hf://me/small"), model)
    assert loopback.downloaded() == []


def test_without_a_network_the_cache_is_used_or_an_error_says_so(
    loopback, small, monkeypatch
):
    from huggingface_hub import constants

    model, files = small
    loopback.add("me/small", files)
    loopback.add("me/other", files)
    load("hf://me/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loopback.requests.clear()
    assert_same(load("hf://me/small"), model)
    with pytest.raises(WeightsError, match="in the cache, and HF_HUB_OFFLINE"):
        load("hf://me/other")
    assert loopback.requests == []

    # No server listens at this port.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert_same(load("hf://me/small"), model)
    with pytest.raises(WeightsError, match="me/other.*cannot be reached"):
        load("hf://me/other")


def test_a_missing_client_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtraError, match=r"pip install 'keras-dropblock\[hub"
    ):
        load("hf://me/small")


# --- upload


@pytest.fixture(scope="module")
def birds():
    card = hub.Card(
        "birds",
        data.Preprocessing((64, 64), (120.0,) * 3, (60.0,) * 3),
        class_names=("ant", "bee", "cat", "dog", "eel"),
        network="WRN-10-1",
        builder="WRN",
        arguments={"depth": 10, "width": 1, "num_classes": 5},
        dataset="birds",
        license="CC-BY-NC-4.0",
        origin="hf://timm/resnet18.tv_in1k@1234",
        metrics={"n": 3, "scores": {"accuracy": {"mean": 0.9, "std": 0.01}}},
    )
    return card.build()


def test_an_uploaded_model_is_the_same_when_loaded(loopback, birds, tmp_path):
    from huggingface_hub import ModelCard

    address = hub.upload(birds, "hf://me/birds", private=True)
    assert address == f"hf://me/birds@{loopback.commit('me/birds')}"
    for source in ("hf://me/birds", address):
        found = load(source)
        assert_same(found, birds)
        assert found.card == birds.card
    (files,) = loopback.repositories["me/birds"]
    assert {*files} == {
        "README.md",
        "card.json",
        "config.json",
        "metadata.json",
        "model.weights.h5",
    }
    readme = files["README.md"].decode()
    assert 'kdb.load("hf://me/birds")' in readme
    metadata = ModelCard(readme).data.to_dict()
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["library_name"] == "keras"
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["datasets"] == ["birds"]
    assert metadata["metrics"] == ["accuracy"]
    assert metadata["base_model"] == "timm/resnet18.tv_in1k"
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.9}]
    # Keras alone reads it, too.
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        (tmp_path / name).write_bytes(files[name])
    assert_same(keras.saving.load_model(tmp_path), birds)


def test_a_new_upload_is_a_new_commit(loopback, birds, monkeypatch):
    first = hub.upload(birds, "hf://me/twice_uploaded")
    trained = birds.card.build()
    trained.compile("adam", "mse")  # the optimizer is left out
    second = hub.upload(trained, "hf://me/twice_uploaded", message="Train")
    assert first != second
    assert_same(load(first), birds)
    assert_same(load("hf://me/twice_uploaded"), trained)


def test_what_cannot_be_uploaded_is_an_error(loopback, birds, monkeypatch):
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(WeightsError, match="must have a card with a builder"):
        hub.upload(plain, "hf://me/plain")
    with pytest.raises(WeightsError, match="must be hf://owner/name"):
        hub.upload(birds, "birds")
    other = models.CifarResNet(8)
    other.card = birds.card
    with pytest.raises(WeightsError, match="not the WRN-10-1 that its card"):
        hub.upload(other, "hf://me/other")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(WeightsError, match="Cannot upload.*hf auth login"):
        hub.upload(birds, "hf://me/refused")
    assert "me/refused" not in loopback.repositories
