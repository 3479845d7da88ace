"""Tests of the server in `serving/` with real clients. They need KServe.

They run in a separate environment, since KServe needs an older protobuf: `make
test-serving`. All addresses are on the loopback interface.
"""

import base64
import collections
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_dropblock import exports, models
from served import (
    NEEDS_KSERVE,
    PREDICT,
    SERVING,
    SHAPE,
    Server,
    by_binary_tensor,
    by_files,
    by_rows,
    by_tensor,
    by_tensor_of_files,
    malformed,
    read,
    start,
)
from small_runs import card

pytestmark = [pytest.mark.tensorflow_only, NEEDS_KSERVE]
CARD = card(SHAPE, "abcde")
CLIENTS, REQUESTS = 16, 2000
# The status as given by KServe and by TensorFlow Serving.
STATUS = {
    "name": "tiny",
    "ready": True,
    "model_version_status": [
        {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported network that gives different images different answers."""
    keras.utils.set_random_seed(0)
    model = models.WRN(10, 1, num_classes=5, input_shape=SHAPE, keep_prob=0.9)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    exports.export(model, folder, card=CARD, monte_carlo_samples=2)
    return folder


@pytest.fixture(scope="module")
def pool(folder):
    """Images, their PNG files, and the SavedModel's answers."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "1"))
    images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), "uint8")
    files = [tf.io.encode_png(image).numpy() for image in images]
    expected = loaded.serve_uint8(images).numpy()
    # Any two answers differ by more than the tolerance of the tests.
    distances = abs(expected[:, None] - expected[None]).max(-1)
    assert (distances + np.eye(40)).min() > 1e-4
    return images, files, expected


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, "--batch_size=16", "--max_megabytes=0.5")
    yield server
    code, output = server.stop()
    assert code == 0 and output.endswith("Stopped.\n")
    assert "Traceback" not in output


# --- single requests


def test_every_protocol_gives_the_models_answers(server, pool):
    images, files, expected = (values[:3] for values in pool)
    for request in (
        by_rows(images),
        by_files(files),
        by_tensor(images),
        by_tensor_of_files(files),
        by_binary_tensor(images),
    ):
        status, answer = server.post(*request)
        assert status == 200, answer
        given, statuses = read(answer)
        assert np.allclose(given, expected, atol=1e-5)
        assert statuses in (None, ["ok"] * 3)


def test_every_signature_is_served(server, pool):
    images, _, expected = (values[:2] for values in pool)
    floats = CARD.normalize(images)
    for signature, rows in (
        ("serve", images),
        ("serving_default", images),
        ("serve_normalized", floats),
    ):
        _, answer = server.post(*by_rows(rows, signature))
        assert np.allclose(answer["predictions"], expected, atol=1e-5)
    # Most clients send pixels without the name of a signature.
    path, body, headers = by_rows(images)
    del body["signature_name"]
    _, answer = server.post(path, body, headers)
    assert np.allclose(answer["predictions"], expected, atol=1e-5)
    _, answer = server.post(*by_rows(images, "features"))
    assert np.shape(answer["predictions"]) == (2, 64)
    _, answer = server.post(*by_rows(images, "monte_carlo"))
    for row in answer["predictions"]:
        assert set(row) == {"mean", "variance"}
        assert sum(row["mean"]) == pytest.approx(1, abs=1e-5)


def test_a_broken_file_does_not_affect_the_others(server, pool):
    _, files, expected = pool
    sent = [files[0], b"", files[1][:60], b"text", files[2]]
    for request in (by_files(sent), by_tensor_of_files(sent)):
        given, statuses = read(server.post(*request)[1])
        assert statuses == [
            "ok",
            "empty",
            "cannot be decoded",
            "neither JPEG nor PNG",
            "ok",
        ]
        assert np.allclose(given[[0, 4]], expected[[0, 2]], atol=1e-5)
        assert not given[1:4].any()


def test_malformed_requests_are_refused_with_a_reason(server, pool):
    images, files, _ = (values[:2] for values in pool)
    for request, code in malformed(images, files):
        status, answer = server.post(*request)
        assert (status, len(answer)) == (code, 1), answer


def test_health_and_metadata(server):
    for path, expected in (
        ("/v1/models", {"models": ["tiny"]}),
        ("/v1/models/tiny", STATUS),
        ("/v1/models/tiny/versions/1", STATUS),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
    ):
        assert server.get(path) == (200, expected)
    _, metadata = server.get("/v2/models/tiny")
    assert metadata["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, *SHAPE]}
    ]
    assert metadata["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 5]}
    ]
    assert server.get("/v1/models/other")[0] == 404


def test_metadata_of_tensorflow_serving_describes_every_signature(server):
    status, answer = server.get("/v1/models/tiny/metadata")
    assert status == 200
    assert answer["model_spec"]["version"] == "1"
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "serve_uint8", "serve_bytes"} <= {*signatures}
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_FLOAT"
    sides = [dim["size"] for dim in images["tensor_shape"]["dim"]]
    assert sides == ["-1", *map(str, SHAPE)]
    of_version = server.get("/v1/models/tiny/versions/1/metadata")
    assert of_version == (status, answer)
    assert server.get("/v1/models/other/metadata")[0] == 404


def test_the_version_in_the_path_must_be_the_loaded_one(server, pool):
    images, _, expected = (values[:2] for values in pool)
    for path, body, headers in (by_rows(images), by_tensor(images)):
        at_version = path.replace("tiny", "tiny/versions/1")
        status, answer = server.post(at_version, body, headers)
        assert status == 200
        assert np.allclose(read(answer)[0], expected, atol=1e-5)
        other = path.replace("tiny", "tiny/versions/2")
        status, answer = server.post(other, body, headers)
        assert (status, answer["error"]) == (
            404,
            "Only version 1 of tiny is served.",
        )


def test_a_request_in_column_format_is_answered_in_column_format(server, pool):
    images, files, expected = (values[:2] for values in pool)
    pixels = images.tolist()
    for inputs in (pixels, {"images": pixels}):
        status, answer = server.post(PREDICT, {"inputs": inputs})
        assert status == 200
        assert np.allclose(answer["outputs"], expected, atol=1e-5)
    _, body, _ = by_files(files)
    body["inputs"] = body.pop("instances")
    _, answer = server.post(PREDICT, body)
    assert answer["outputs"]["status"] == ["ok", "ok"]
    given = answer["outputs"]["probabilities"]
    assert np.allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("kind", ["UINT8", "FP32", "BYTES"])
def test_tritonclient_gets_the_models_answers(
    server, pool, kind, binary_input, binary_output
):
    http = pytest.importorskip("tritonclient.http")
    images, files, expected = (values[:3] for values in pool)
    rows = {
        "UINT8": images,
        "FP32": images.astype("float32"),
        "BYTES": np.array(files, object),
    }[kind]
    if kind == "BYTES" and not binary_input:
        encoded = [base64.b64encode(file).decode() for file in files]
        rows = np.array(encoded, object)
    given = http.InferInput("images", rows.shape, kind)
    given.set_data_from_numpy(rows, binary_data=binary_input)
    wanted = http.InferRequestedOutput("probabilities", binary_output)
    with http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_model_ready("tiny")
        for outputs in ([wanted], None):
            answer = client.infer("tiny", [given], outputs=outputs)
            probabilities = answer.as_numpy("probabilities")
            assert np.allclose(probabilities, expected, atol=1e-5)
            assert answer.get_response()["model_version"] == "1"
        if kind == "BYTES":
            assert answer.as_numpy("status").tolist() == [b"ok"] * 3


def test_the_client_prints_class_names(server, pool, tmp_path):
    _, files, expected = pool
    (tmp_path / "a.png").write_bytes(files[0])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "labels.txt").write_text(
        "".join(f"kind {i}\n" for i in range(5))
    )
    result = subprocess.run(
        [
            sys.executable,
            str(SERVING / "client.py"),
            "--model=tiny",
            f"--url=http://127.0.0.1:{server.port}",
            "--labels=labels.txt",
            "a.png",
            "b.png",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    best = expected[0].argmax()
    assert result.stdout.splitlines() == [
        f"a.png: kind {best} ({expected[0, best]:.1%})",
        "b.png: empty",
    ], result.stderr
    assert result.returncode == 1


# --- concurrent requests


def test_each_of_2000_requests_of_16_clients_gets_its_own_answer(server, pool):
    images, files, expected = pool
    bad = malformed(images[:2], files[:2])
    kinds = (by_rows, by_files, by_tensor, by_tensor_of_files)

    def client(number):
        """Send one client's requests and count the statuses of the answers."""
        rng = np.random.default_rng(number)
        connection, seen = server.connect(), collections.Counter()
        for i in range(REQUESTS // CLIENTS):
            # Every 20th request (5 %) is malformed, each kind in turn.
            turn, rest = divmod(number * (REQUESTS // CLIENTS) + i, 20)
            if rest == 0:
                request, code = bad[turn % len(bad)]
                status, _ = server.post(*request, connection)
                assert status == code
            else:
                chosen = rng.choice(len(images), rng.integers(1, 5))
                kind = kinds[i % len(kinds)]
                of_files = kind in (by_files, by_tensor_of_files)
                sent = (
                    [files[j] for j in chosen] if of_files else images[chosen]
                )
                status, answer = server.post(*kind(sent), connection)
                assert status == 200, answer
                given, _ = read(answer)
                assert np.allclose(given, expected[chosen], atol=1e-5)
            seen[status] += 1
        connection.close()
        return seen

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as executor:
        seen = sum(executor.map(client, range(CLIENTS)), collections.Counter())
    assert seen.total() == REQUESTS and seen[200] == REQUESTS * 19 // 20
    # Batches are larger than requests, which have 2.5 images on average.
    _, metrics = server.get("/metrics")

    def total(what):
        pattern = (
            rf'classifier_batch_rows_{what}{{signature="serve_uint8"}} (\S+)'
        )
        return float(re.search(pattern, metrics)[1])

    assert total("sum") / total("count") > 3


def test_too_many_requests_are_rejected_but_health_is_not(folder, pool):
    images, _, expected = (values[:1] for values in pool)
    server = Server(folder, "--max_requests=2", "--body_seconds=3")
    try:
        head = (
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            "Content-Type: application/json\r\n\r\n{"
        )
        # Two clients that never send their whole body.
        slow = [
            socket.create_connection(("127.0.0.1", server.port), timeout=30)
            for _ in range(2)
        ]
        for connection in slow:
            connection.sendall(head.encode())
        time.sleep(0.5)
        status, answer = server.post(*by_rows(images))
        assert status == 503 and "2 requests are in progress" in answer["error"]
        assert server.get("/v2/health/ready")[0] == 200
        for connection in slow:  # until they time out
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
            connection.close()
        status, answer = server.post(*by_rows(images))
        assert np.allclose(read(answer)[0], expected, atol=1e-5)
    finally:
        assert server.stop()[0] == 0


def test_on_sigterm_current_requests_are_answered_and_new_ones_are_not(
    folder, pool
):
    images, _, expected = pool
    server = Server(folder, "--batch_size=40")
    path, body, headers = by_rows(images)
    body = json.dumps(body).encode()
    connections = [server.connect() for _ in range(8)]
    for connection in connections:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", headers["Content-Type"])
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])
    time.sleep(2)  # so that all requests are in progress at the SIGTERM
    os.kill(server.process.pid, signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(OSError):
        server.get("/v2/health/live")
    assert server.process.poll() is None
    for connection in connections:
        connection.send(body[-1:])
    for connection in connections:
        response = connection.getresponse()
        assert response.status == 200
        given, _ = read(json.loads(response.read()))
        assert np.allclose(given, expected, atol=1e-5)
        connection.close()
    assert server.process.wait(timeout=30) == 0
    assert server.printed.endswith("Stopped.\n")
    server.kill()


def test_sigterm_during_startup_stops_the_server(folder):
    _, process = start(folder)
    try:
        for line in process.stdout:
            if line.startswith("Serving"):
                break
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and output.endswith("Stopped.\n")


def test_a_folder_without_a_savedmodel_gives_a_one_line_error(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            str(SERVING / "server.py"),
            f"--saved_model={tmp_path}",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"{tmp_path} must hold a")
