"""The server's classifier, tested without KServe.

Simple classes replace the classes of KServe that it uses.
"""

import asyncio
import base64
import importlib
import sys
import types

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow_only
USE_KSERVE = ("answers", "signature", "classifier")


class InvalidInput(Exception):
    """Replaces KServe's error for an invalid request."""


class Stub:
    def __init__(self, *arguments, **keywords):
        self.__dict__ |= keywords

    def labels(self, key):
        return types.SimpleNamespace(observe=lambda count: None)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A `Classifier` of up to 4 rows: images of 2 x 3 x 1, or files."""
    folder = tmp_path_factory.mktemp("model")
    save(folder / "1")
    with pytest.MonkeyPatch.context() as patch:
        stand_in_for_kserve(patch)
        for name in USE_KSERVE:
            patch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module("classifier")
        # Later imports must use KServe, if it is installed.
        for name in USE_KSERVE:
            del sys.modules[name]
        yield module.Classifier("tiny", folder, batch_size=4)


def stand_in_for_kserve(patch):
    for name, content in {
        "kserve": dict.fromkeys(
            ("InferOutput", "InferRequest", "InferResponse", "Model"), Stub
        ),
        "kserve.errors": {"InvalidInput": InvalidInput},
        "kserve.protocol": {},
        "kserve.protocol.dataplane": {"DataPlane": Stub},
        "prometheus_client": {"Histogram": Stub},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        patch.setitem(sys.modules, name, module)


def save(path):
    import tensorflow as tf

    def mean(images):
        return tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])

    module, shape = tf.Module(), (None, 2, 3, 1)
    module.serve = tf.function(
        mean, input_signature=[tf.TensorSpec(shape, tf.float32, "images")]
    )
    module.serve_uint8 = tf.function(
        mean, input_signature=[tf.TensorSpec(shape, tf.uint8, "images")]
    )
    # As detection and segmentation: images of any size, and several outputs.
    module.any_size = tf.function(
        lambda images: {
            "mask": images[..., 0],
            "mask_bytes": tf.map_fn(
                tf.io.encode_png,
                images,
                fn_output_signature=tf.TensorSpec((), tf.string),
            ),
            "count": tf.fill(tf.shape(images)[:1], 2),
        },
        input_signature=[
            tf.TensorSpec((None, None, None, 1), tf.uint8, "images")
        ],
    )
    module.features = tf.function(
        mean, input_signature=[tf.TensorSpec(shape, tf.uint8, "images")]
    )
    module.serve_bytes = tf.function(
        lambda files: {"length": tf.strings.length(files)[:, None]},
        input_signature=[tf.TensorSpec((None,), tf.string, "images")],
    )
    signatures = {
        name: getattr(module, name)
        for name in (
            "serve",
            "serve_uint8",
            "serve_bytes",
            "features",
            "any_size",
        )
    } | {"serving_default": module.serve}
    tf.saved_model.save(module, str(path), signatures)


def ask(classifier, instances, signature="serve"):
    payload = {"instances": instances, "signature_name": signature}
    return asyncio.run(classifier.predict(payload))["predictions"]


def test_rows_of_every_signature_are_answered(classifier):
    images = np.arange(12).reshape(2, 2, 3, 1).tolist()
    for signature in ("serve", "serve_uint8", "serving_default"):
        assert ask(classifier, images, signature) == [[2.5], [8.5]]
    named = [{"images": image} for image in images]
    assert ask(classifier, named) == [[2.5], [8.5]]
    files = [{"b64": base64.b64encode(b"12345").decode()}, ""]
    assert ask(classifier, files, "serve_bytes") == [[5], [0]]


def test_images_of_any_size_have_answers_of_all_types(classifier):
    import tensorflow as tf

    for height, width in ((2, 2), (3, 5)):
        image = np.arange(height * width, dtype="uint8")
        image = image.reshape(height, width, 1)
        (answer,) = ask(classifier, [image.tolist()], "any_size")
        assert answer["mask"] == image[..., 0].tolist()
        assert answer["count"] == 2
        file = base64.b64decode(answer["mask_bytes"]["b64"])
        np.testing.assert_array_equal(tf.io.decode_png(file), image)


def test_the_outputs_are_described_by_name_type_and_shape(classifier):
    assert classifier.get_output_types() == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 1]}
    ]


@pytest.mark.parametrize("shape", [(1, 0, 0, 1), (2, 3, 0, 1), (1, 0, 4, 1)])
def test_images_without_pixels_are_rejected_also_of_any_size(classifier, shape):
    signature = classifier._signature("any_size")
    for kind in ("uint8", "int64"):
        with pytest.raises(InvalidInput, match=r"\[1 or more, 1 or more, 1\]"):
            signature.tensor(np.zeros(shape, kind))


def test_only_probabilities_are_called_probabilities(classifier):
    images = np.zeros((1, 2, 3, 1), "uint8")
    for key, name in (
        ("serve", "probabilities"),
        ("serving_default", "probabilities"),
        ("features", "features"),
        ("serve_bytes", "length"),
    ):
        signature = classifier._signature(key)
        rows = np.array([b"x"], object) if key == "serve_bytes" else images
        assert [*asyncio.run(signature(signature.tensor(rows)))] == [name]


def test_the_client_prints_the_answers_of_every_task(
    monkeypatch, capsys, tmp_path
):
    import client

    path = tmp_path / "a.png"
    path.write_bytes(b"")
    for answer, line in (
        ({"status": "ok", "probabilities": [0.25, 0.75]}, "1 (75.0%)"),
        (
            {"status": "ok", "mask_bytes": {"b64": "YQ=="}},
            '{"mask_bytes": {"b64": "YQ=="}}',
        ),
        (
            {"boxes": [[0, 1, 2, 3]], "scores": [0.5], "status": "ok"},
            '{"boxes": [[0, 1, 2, 3]], "scores": [0.5]}',
        ),
        ({"mask_bytes": {"b64": ""}, "status": "empty file"}, "empty file"),
    ):
        monkeypatch.setattr(client, "classify", lambda *_, a=answer: [a])
        monkeypatch.setattr("sys.argv", ["client", "--model=x", str(path)])
        assert client.main() == (answer["status"] != "ok")
        assert capsys.readouterr().out == f"{path}: {line}\n"


@pytest.mark.parametrize(
    "instances, signature, message",
    [
        ([[[[0]] * 3] * 2], "no_such", "`signature_name` must be one of"),
        ([[[[0]] * 3] * 2], ["serve"], "`signature_name` must be one of"),
        ([[[[0]] * 3] * 2], "x" * 9999, "Received: 'x{99}[.]$"),
        ([[[[0]] * 2] * 2], "serve", r"must be \[2, 3, 1\] numbers"),
        ([[[["0"]] * 3] * 2], "serve", r"must be \[2, 3, 1\] numbers"),
        ([[[[None]] * 3] * 2], "serve", r"must be \[2, 3, 1\] numbers"),
        ([[[[0]] * 3] * 2, 1], "serve", r"must be \[2, 3, 1\] numbers"),
        ([[[[np.nan]] * 3] * 2], "serve", "Each number must be finite"),
        ([[[[1e39]] * 3] * 2], "serve", "Each number must be finite"),
        ([[[[256]] * 3] * 2], "serve_uint8", "whole numbers from 0 to 255"),
        ([[[[-1]] * 3] * 2], "serve_uint8", "whole numbers from 0 to 255"),
        ([[[[0.5]] * 3] * 2], "serve_uint8", "whole numbers from 0 to 255"),
        ([[[[0]] * 3] * 2] * 5, "serve", "There must be 1 to 4 instances"),
        ([], "serve", "There must be 1 to 4 instances, in a list"),
        ({"b64": ""}, "serve", "There must be 1 to 4 instances, in a list"),
        ([{"b64": "YWJj!"}], "serve_bytes", "Instance 0 is not valid base64"),
        (["YQ==", "YQ"], "serve_bytes", "Instance 1 is not valid base64"),
        (["ü"], "serve_bytes", "Instance 0 is not valid base64"),
        ([{"b64": 1}], "serve_bytes", "Each instance must be"),
        ([[0]], "serve_bytes", "Each instance must be"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_invalid_instances_are_rejected_with_a_reason(
    classifier, instances, signature, message
):
    with pytest.raises(InvalidInput, match=message):
        ask(classifier, instances, signature)


@pytest.mark.parametrize("payload", [None, [], {}, {"instance": [1]}, "x"])
def test_invalid_requests_are_rejected_with_a_reason(classifier, payload):
    with pytest.raises(InvalidInput, match="JSON object with `instances` or"):
        asyncio.run(classifier.predict(payload))
