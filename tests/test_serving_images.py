"""The server answers with boxes and masks. See test_serving.py.

Most requests go to a detector that is written by hand, because KServe and
KerasHub need different versions of protobuf. A RetinaNet is exported by a
process in the environment of KerasHub.
"""

import base64
import dataclasses
import os
import pathlib
import subprocess

import keras
import numpy as np
import pytest

import keras_dropblock as kdb
from served import (
    DETECTOR_OUTPUTS,
    NEEDS_KSERVE,
    Server,
    by_binary_tensor,
    by_files,
    by_rows,
    by_tensor,
    by_tensor_of_files,
)
from small_runs import card

pytestmark = [pytest.mark.tensorflow_only, NEEDS_KSERVE]
SIZE = (45, 50)  # not the size of the network
ROOM = 3  # rows of boxes of the detector below


@pytest.fixture(scope="module")
def image():
    """A bright square on a dark ground, and its box."""
    image = np.random.default_rng(0).integers(0, 90, (*SIZE, 3), "uint8")
    image[10:30, 20:44] += 160
    return image


def columns(answer):
    """Dict from the name of an output to rows, in either protocol."""
    if "outputs" in answer:
        return {
            output["name"]: np.reshape(output["data"], output["shape"])
            for output in answer["outputs"]
        }
    rows = answer["predictions"]
    if not isinstance(rows[0], dict) or [*rows[0]] == ["b64"]:
        return {"mask": rows}
    return {name: [row[name] for row in rows] for name in rows[0]}


# --- masks


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory, image):
    """(folder, mask that the model predicts for the image)."""
    keras.utils.set_random_seed(0)
    shape = (64, 96, 3)
    backbone = kdb.models.ResNet(18, 0.125, input_shape=shape, num_classes=1)
    model = kdb.tasks.FCN(backbone, 3, filters=8)
    of = card(shape, "abc", task="segmentation")
    padded = dataclasses.replace(of.preprocessing, framing="pad")
    model.card = dataclasses.replace(of, preprocessing=padded)
    # Random logits with a mean of 0: each class is predicted somewhere.
    *_, kernel, bias = model.trainable_variables
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    seen = padded.normalize(np.asarray(padded.fit(image))[None])
    logits = np.asarray(model(seen, training=False))[:, :, :71]
    bias.assign(-logits.mean((0, 1, 2)))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    kdb.export(model, folder)
    (mask,) = kdb.predict(model, [image])
    assert len(np.unique(mask)) > 1
    return folder, mask


def test_masks_have_the_size_of_the_image(segmenter, image):
    import tensorflow as tf

    folder, expected = segmenter
    png = tf.io.encode_png(image).numpy()
    server = Server(folder)
    try:
        for request in (
            by_rows(image[None]),
            by_tensor(image[None]),
            by_binary_tensor(image[None]),
        ):
            status, answer = server.post(*request)
            assert status == 200, answer
            (mask,) = columns(answer)["mask"]
            assert np.shape(mask) == SIZE
            assert (np.array(mask) == expected).mean() > 0.999
        for request in (
            by_files([png, b"no image"]),
            by_tensor_of_files([png, b"no image"]),
        ):
            status, answer = server.post(*request)
            assert status == 200, answer
            found = columns(answer)
            assert found["status"][0] == "ok" != found["status"][1]
            file = found["mask_bytes"][0]
            file = file["b64"] if isinstance(file, dict) else file
            mask = tf.io.decode_png(base64.b64decode(file)).numpy()[..., 0]
            assert (mask == expected).mean() > 0.999
    finally:
        code, output = server.stop()
    assert code == 0 and "Traceback" not in output


# --- boxes


def write_detector(path):
    """Write a SavedModel that finds the bright pixels of an image.

    It has the inputs and outputs of an exported RetinaNet.
    """
    import tensorflow as tf

    class Detector(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((None,) * 3 + (3,), "uint8")]
        )
        def serve_uint8(self, images):
            bright = tf.reduce_all(images > 128, -1)
            sides = []
            for axis in (1, 2):
                seen = tf.cast(tf.reduce_any(bright, 3 - axis), tf.int32)
                first = tf.argmax(seen, 1, tf.int32)
                sides.append((first, first + tf.reduce_sum(seen, 1)))
            (top, bottom), (left, right) = sides
            box = tf.cast(tf.stack([top, left, bottom, right], 1), tf.float32)
            found = tf.cast(tf.reduce_any(bright, (1, 2)), tf.int32)
            rest = [[0, 0], [0, ROOM - 1]]
            return {
                "boxes": tf.pad(box[:, None], [*rest, [0, 0]]),
                "scores": tf.pad(tf.cast(found, tf.float32)[:, None], rest),
                "labels": tf.pad(found[:, None] - 1, rest, constant_values=-1),
                "num_detections": found,
            }

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def serve_bytes(self, images):
            kinds = {
                name: tf.TensorSpec(shape, dtype)
                for name, (dtype, shape) in DETECTOR_OUTPUTS.items()
            }

            def found(file):
                image = tf.io.decode_image(file, 3, expand_animations=False)
                answers = self.serve_uint8(image[None])
                return {name: row[0] for name, row in answers.items()}

            def nothing():
                rows = self.serve_uint8(tf.zeros((1, 1, 1, 3), tf.uint8))
                return {name: row[0] for name, row in rows.items()}

            def answer(file):
                return tf.cond(
                    tf.strings.length(file) > 0, lambda: found(file), nothing
                )

            rows = tf.map_fn(answer, images, fn_output_signature=kinds)
            good = tf.strings.length(images) > 0
            return {**rows, "status": tf.where(good, "ok", "empty")}

    module = Detector()
    tf.saved_model.save(
        module,
        str(path),
        {
            "serving_default": module.serve_uint8,
            "serve_uint8": module.serve_uint8,
            "serve_bytes": module.serve_bytes,
        },
    )


def test_boxes_are_in_the_pixels_of_the_image(tmp_path, image):
    import tensorflow as tf

    folder = tmp_path / "tiny"
    write_detector(folder / "1")
    wide = np.pad(image, [(0, 0), (7, 60), (0, 0)])
    files = [tf.io.encode_png(x).numpy() for x in (image, wide)]
    server = Server(folder)
    try:
        for request, boxes in (
            (by_rows(image[None]), [[10, 20, 30, 44]]),
            (by_tensor(wide[None]), [[10, 27, 30, 51]]),
            (by_binary_tensor(wide[None]), [[10, 27, 30, 51]]),
            (by_files([*files, b""]), [[10, 20, 30, 44], [10, 27, 30, 51]]),
            (
                by_tensor_of_files([*files, b""]),
                [[10, 20, 30, 44], [10, 27, 30, 51]],
            ),
        ):
            status, answer = server.post(*request)
            assert status == 200, answer
            found = columns(answer)
            for i, box in enumerate(boxes):
                assert found["num_detections"][i] == 1
                assert np.array(found["boxes"])[i, 0].tolist() == box
                assert np.array(found["labels"])[i].tolist() == [0, -1, -1]
                assert np.array(found["scores"])[i].tolist() == [1, 0, 0]
            if "status" in found:
                assert [*found["status"]] == ["ok", "ok", "empty"]
                assert found["num_detections"][2] == 0
    finally:
        code, output = server.stop()
    assert code == 0 and "Traceback" not in output


_EXPORT = """
import sys

import keras
import numpy as np

import keras_dropblock as kdb
from keras_dropblock.data import shapes
from keras_dropblock.training import plan

keras.utils.set_random_seed(0)
recipe = kdb.Recipe().override(
    ["task=detection", "dataset=shapes", "image_size=[64, 96]", "max_level=5"]
    + ["model=ResNet-18-0.125", "head_convs=1"]
)
card = plan.resolve(recipe).card
model = card.build()
model.card = card
layer = model.classification_head.prediction_layer
layer.kernel.assign(40 * layer.kernel)  # some clear scores
layer.bias.assign(keras.ops.zeros(layer.bias.shape))
kdb.export(model, sys.argv[1] + "/tiny")
image = shapes.example("test", 0, (150, 110))[0]
np.savez(sys.argv[1] + "/a.npz", image=image, **kdb.predict(model, [image])[0])
"""
VISION_PYTHON = os.environ.get("VISION_PYTHON", "")


@pytest.mark.skipif(
    not os.path.exists(VISION_PYTHON),
    reason="KerasHub's environment is missing: run make test-vision first",
)
def test_an_exported_retinanet_is_served(tmp_path):
    import tensorflow as tf

    subprocess.run(
        [VISION_PYTHON, "-c", _EXPORT, str(tmp_path)],
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
    )
    with np.load(tmp_path / "a.npz") as file:
        image, boxes, scores = file["image"], file["boxes"], file["scores"]
    assert len(boxes) >= 3
    server = Server(tmp_path / "tiny")
    try:
        for request in (
            by_rows(image[None]),
            by_binary_tensor(image[None]),
            by_files([tf.io.encode_png(image).numpy()]),
        ):
            status, answer = server.post(*request)
            assert status == 200, answer
            found = columns(answer)
            assert found["num_detections"][0] == len(boxes)
            np.testing.assert_allclose(
                np.array(found["boxes"])[0, :3], boxes[:3], atol=0.05
            )
            np.testing.assert_allclose(
                np.array(found["scores"])[0, : len(boxes)], scores, atol=1e-3
            )
    finally:
        code, output = server.stop()
    assert code == 0 and "Traceback" not in output
