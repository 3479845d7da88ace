"""Fuzz tests of the limits and of a whole server.

The server needs KServe: `make test-serving`.
"""

import asyncio
import contextlib
import json
import socket
import time
import urllib.parse

import keras
import numpy as np
import pytest

from fuzzing import Group, altered, damaged, pick
from keras_dropblock import data, exports, hub, models
from limits import Limits
from served import (
    INFER,
    JSON,
    NEEDS_KSERVE,
    PREDICT,
    SHAPE,
    Server,
    by_binary_tensor,
    by_files,
    by_rows,
    by_tensor,
    by_tensor_of_files,
    read,
    tensor,
)

pytestmark = [pytest.mark.fuzz, pytest.mark.tensorflow_only]
SECONDS = 20  # time limit for an answer
# 404: unknown route or model; 405: wrong method; 422: rejected by KServe's
# check of the protocol; 307: a redirect for an extra slash.
REFUSALS = {307, 400, 403, 404, 405, 408, 413, 422}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = models.WRN(10, 1, num_classes=5, input_shape=SHAPE)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    preprocessing = data.Preprocessing(SHAPE[:2], (120.0,) * 3, (60.0,) * 3)
    exports.export(model, folder, card=hub.Card("tiny", preprocessing, ()))
    flags = ("--batch_size=16", "--max_megabytes=0.5", "--body_seconds=2")
    server = Server(folder, *flags)
    yield server
    server.kill()


def most_memory(server):
    """Peak memory of the server, in MB."""
    with open(f"/proc/{server.process.pid}/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def images_and_files():
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), "uint8")
    files = [tf.io.encode_png(image).numpy() for image in images]
    files[1] = tf.io.encode_jpeg(images[1]).numpy()
    return images, files


def valid_requests(images, files):
    return [
        by_rows(images),
        by_rows(images / 255.0, "serve"),
        by_rows(images[:1], "features"),
        by_files(files),
        by_tensor(images),
        by_tensor_of_files(files),
        by_binary_tensor(images),
        (INFER, tensor("FP32", [1, *SHAPE], [0.5] * 288), JSON),
    ]


def content_of(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def changed(rng, request, files):
    """A valid request with a small change."""
    path, body, headers = request
    kind = rng.integers(12)
    if kind < 3:
        return path, damaged(rng, content_of(body)), headers
    if kind < 7 and isinstance(body, dict):
        return path, altered(rng, body, deep=0.9), headers
    if kind == 7:
        broken = [damaged(rng, file) for file in files]
        return pick(rng, [by_files, by_tensor_of_files])(broken)
    if kind == 8:
        start, _, name = path.rpartition("/")
        name = damaged(rng, name.encode())
        return f"{start}/{urllib.parse.quote(name)}", body, headers
    if kind == 9:
        odd = pick(
            rng,
            ["-1", "0", "x", "", "1e3", "99999999", "9" * 5000, "٣", "1, 2"],
        )
        name = "Inference-Header-Content-Length"
        return path, body, headers | {name: odd.encode("utf-8")}
    if kind == 10:
        odd = [
            "",
            "x",
            "text/plain",
            "application/octet-stream",
            "application/json; charset=utf-16",
            "application/cloudevents",
            "application/cloudevents+json",
            "multipart/form-data",
        ]
        return path, body, headers | {"Content-Type": pick(rng, odd)}
    return path, content_of(body), headers | odd_headers(rng)


def odd_headers(rng):
    """Headers that KServe or its libraries may read."""
    return {
        pick(
            rng,
            [
                "Content-Encoding",
                "Accept",
                "Accept-Encoding",
                "Expect",
                "ce-specversion",
                "ce-id",
                "ce-type",
                "ce-source",
                "X-Request-Id",
                "Request-Id",
                "Connection",
                "Te",
            ],
        ): pick(rng, ["", "x", "1.0", "gzip", "a" * 5000, "\x7f"])
    }


def anything(rng):
    """A request without valid parts."""
    path = pick(rng, [PREDICT, INFER])
    nested = pick(rng, [b"[", b'{"instances":', b'{"inputs":[']) * 20_000
    body = pick(
        rng,
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'""',
            b"0",
            b"NaN",
            b"9" * 5000,
            nested,
            rng.bytes(int(rng.integers(200))),
            b"\0" * 100,
            b'{"instances": null}',
            b'{"instances": {}}',
            b'{"instances": [' + b"1," * 50_000 + b"1]}",
            b'{"instances": "' + b"x" * 1000 + b'"}',
            b'{"instances": [1e999, -1e999]}',
            b'{"inputs": [{}]}',
            b'{"inputs": [], "parameters": [], "id": 3}',
            b'{"inputs": [{"name": "images", "a": "' + b"x" * 10**5 + b'"}]}',
            *by_surrogates(),
        ],
    )
    return path, body, JSON


def by_surrogates():
    """An unpaired surrogate, which JSON can write, in every text."""
    half = "\ud800"
    good = tensor("FP32", [1, *SHAPE], [0.5] * 288)
    (one,) = good["inputs"]
    return [
        content_of(body)
        for body in (
            good | {"id": half},
            good | {half: half},
            good | {"parameters": {"signature_name": half}},
            good | {"parameters": {half: half}},
            {"inputs": [one | {"name": half}]},
            {"inputs": [one | {"datatype": half}]},
            {"inputs": [one | {"shape": half}]},
            {"inputs": [one | {half: 1}]},
            tensor("BYTES", [1], [half]),
            {"signature_name": half, "instances": [[0]]},
            {"signature_name": "serve_bytes", "instances": [{"b64": half}]},
            {half: half, "instances": [[0]]},
        )
    ]


def ask(server, request, method="POST"):
    """Check an answer and return its status."""
    path, body, headers = request
    with contextlib.closing(server.connect()) as connection:
        connection.timeout = SECONDS
        connection.request(method, path, content_of(body), headers)
        response = connection.getresponse()
        content = response.read()
    status = response.status
    assert status == 200 or status in REFUSALS, (status, content[:300])
    if status == 200 and method == "POST":
        answer = json.loads(content)
        given, _ = read(
            answer.get("data", answer)
        )  # the answer may be a CloudEvent
        assert np.isfinite(given).all()
    elif response.headers["Content-Type"] == "application/json":
        assert method == "HEAD" or len(json.loads(content)) == 1, content[:300]
    # The answer is short for any request.
    assert status == 200 or len(content) < 2000, content[:300]
    return status


def raw(rng):
    """The bytes of a request with small changes, mostly in its head."""
    body = content_of({"instances": [[0]]})
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return damaged(rng, head.encode() + body)


def send_raw(server, content):
    """The status of the answer, or "closed" if there is none."""
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=SECONDS) as connection:
        connection.sendall(content)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65_536)
        except ConnectionError:
            return "closed"
    if not answer:
        return "closed"
    version, status, *_ = answer.split(None, 2)
    assert version == b"HTTP/1.1", answer[:300]
    assert int(status) == 200 or int(status) in REFUSALS, answer[:300]
    return int(status)


@NEEDS_KSERVE
def test_every_request_gets_an_answer_or_an_error(server, record_property):
    group = Group("requests: HTTP", record_property)
    images, files = images_and_files()
    valid = valid_requests(images, files)
    for request in valid:
        assert ask(server, request) == 200
    memory = most_memory(server)

    def run(label, derived, send, *arguments):
        started = time.monotonic()
        try:
            status = send(server, *arguments)
        except (AssertionError, OSError, ValueError, LookupError) as error:
            status = "fault"
            group.faults.append(f"{label}: {error!r}: {str(arguments)[:500]}")
        name = "accepted" if status == 200 else str(status)
        group.count(name, derived, time.monotonic() - started)

    for i in range(900):
        rng = np.random.default_rng([1, i])
        run(f"changed {i}", True, ask, changed(rng, pick(rng, valid), files))
    for i in range(150):
        rng = np.random.default_rng([2, i])
        run(f"anything {i}", False, ask, anything(rng))
    for i in range(50):
        rng = np.random.default_rng([3, i])
        method = pick(rng, ["GET", "PUT", "DELETE", "HEAD", "PATCH", "X"])
        run(f"method {i}", False, ask, pick(rng, valid), method)
    for i in range(200):
        rng = np.random.default_rng([4, i])
        run(f"raw {i}", True, send_raw, raw(rng))
    group.grown = most_memory(server) - memory
    assert ask(server, valid[0]) == 200
    assert server.get("/v2/health/ready")[0] == 200
    code, output = server.stop()
    assert code == 0 and output.endswith("Stopped.\n"), output[-3000:]
    if "Traceback" in output:
        at = output.index("Traceback")
        group.faults.append(f"the server's log: {output[at : at + 3000]}")
    group.close(at_least=1300)


# --- the limits without a server, as an ASGI application


MOST = 2**10  # bytes of a body


async def application(scope, receive, send):
    """An application that answers with the body of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message.get("body", b"")
        more = message.get("more_body", False)
    start = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def exchange(rng):
    """A request as (scope, messages, seconds before the last message)."""
    method = pick(rng, ["POST", "POST", "POST", "PUT", "GET", "HEAD", "X", ""])
    path = pick(rng, [PREDICT, INFER, "/v2/repository/models/x/load", "/", ""])
    size = int(pick(rng, [0, 1, 100, MOST - 1, MOST, MOST + 1, 5 * MOST]))
    body = rng.bytes(size)
    cuts = sorted(
        int(cut) for cut in rng.integers(0, size + 1, rng.integers(5))
    )
    messages = [
        {"type": "http.request", "body": body[a:b], "more_body": True}
        for a, b in zip([0, *cuts], [*cuts, size], strict=True)
    ]
    # Keys with default values may be missing.
    messages[-1].pop("more_body")
    for message in messages:
        if not message["body"] and rng.random() < 0.5:
            del message["body"]
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    return scope, messages, float(pick(rng, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]))


async def converse(limits, scope, messages, late):
    """(status, body) of the only answer to a request."""
    coming, sent = list(messages), []

    async def receive():
        if len(coming) == 1 and late:
            await asyncio.sleep(late)
        await asyncio.sleep(0)
        if coming:
            return coming.pop(0)
        # The body has ended, and the client waits for the answer.
        return await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await limits(scope, receive, send)
    start, end = sent
    assert start["type"] == "http.response.start"
    assert end["type"] == "http.response.body" and not end.get("more_body")
    return start["status"], end["body"]


def check_answer(scope, messages, late, answer):
    status, given = answer
    body = b"".join(message.get("body", b"") for message in messages)
    if status == 200:
        assert given == body
    assert status in (200, 403, 408, 413, 503)
    if scope["method"] in ("GET", "HEAD"):
        assert status == 200
    elif status != 503:
        expected = 200 if len(body) <= MOST else 413
        if late and len(body) <= MOST:
            expected = 408
        if scope["path"].startswith("/v2/repository"):
            expected = 403
        # A late body that is too large may be rejected for either reason.
        assert status in {expected, 408 if late else expected}
    if status != 200:
        assert list(json.loads(given)) == ["error"]
    return "accepted" if status == 200 else str(status)


def test_the_limits_answer_every_request_exactly_once(record_property):
    group = Group("requests: limits", record_property)

    async def all_of_them():
        limits = Limits(
            application, requests=4, megabytes=MOST / 2**20, seconds=0.1
        )
        for i in range(0, 1200, 6):
            exchanges = [
                exchange(np.random.default_rng([5, i + j])) for j in range(6)
            ]
            started = time.monotonic()
            answers = await asyncio.gather(
                *(converse(limits, *each) for each in exchanges)
            )
            took = time.monotonic() - started
            for each, answer in zip(exchanges, answers, strict=True):
                group.count(check_answer(*each, answer), True, took)
        scope = {"type": "http", "method": "POST", "path": PREDICT}
        whole = [{"type": "http.request", "body": b"x"}]
        for _ in range(5):  # all slots are free again
            assert await converse(limits, scope, whole, 0) == (200, b"x")

    asyncio.run(all_of_them())
    assert {"200", "403", "408", "413", "503"} - {*group.outcomes} == {"200"}
    group.close(at_least=1200)
