"""A server process and requests of all kinds, for the serving tests."""

import base64
import contextlib
import http.client
import importlib.util
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

NEEDS_KSERVE = pytest.mark.skipif(
    importlib.util.find_spec("kserve") is None,
    reason="KServe is not installed: make test-serving",
)
SERVING = pathlib.Path(__file__).parents[1] / "serving"
SHAPE = (8, 12, 3)  # of the images of the model `tiny`
JSON = {"Content-Type": "application/json"}
PREDICT, INFER = "/v1/models/tiny:predict", "/v2/models/tiny/infer"


def start(folder, *flags, output=subprocess.PIPE):
    """Start a server on a free port. Returns (port, process)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable,
            str(SERVING / "server.py"),
            f"--saved_model={folder}",
            f"--port={port}",
            *flags,
        ],
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return port, process


class Server:
    """A server process on a free port of the loopback interface.

    Its output goes to a file: with a pipe that is not read, the server would
    block once the pipe is full.
    """

    def __init__(self, folder, *flags):
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.port, self.process = start(folder, *flags, output=self.output)
        for _ in range(600):
            assert self.process.poll() is None, self.printed
            try:
                if self.get("/v2/health/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("The server is not ready after a minute.")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, headers=JSON, connection=None):
        """Send one request. Returns (status, JSON or text)."""
        if connection is None:
            with contextlib.closing(self.connect()) as connection:
                return self.ask(method, path, body, headers, connection)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.headers["Content-Type"] == "application/json":
            return response.status, json.loads(content)
        return response.status, content.decode()

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body, headers=JSON, connection=None):
        return self.ask("POST", path, body, headers, connection)

    def stop(self):
        """Stop the server. Returns (exit code, output)."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60), self.printed
        finally:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.output.close()

    @property
    def printed(self):
        self.output.seek(0)
        return self.output.read()


# Types and shapes of the answers of an exported detector for one image.
DETECTOR_OUTPUTS = {
    "boxes": ("float32", (None, 4)),
    "scores": ("float32", (None,)),
    "labels": ("int32", (None,)),
    "num_detections": ("int32", ()),
}


# Requests are (path, body, headers).


def by_rows(images, signature="serve_uint8"):
    rows = {"signature_name": signature, "instances": images.tolist()}
    return PREDICT, rows, JSON


def by_files(files):
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    body = {"signature_name": "serve_bytes", "instances": instances}
    return PREDICT, body, JSON


def tensor(datatype, shape, values, **more):
    one = {"name": "images", "datatype": datatype, "shape": list(shape)}
    return {"inputs": [one | {"data": values}], **more}


def by_tensor(images):
    values = images.ravel().tolist()
    return INFER, tensor("UINT8", images.shape, values, id="x"), JSON


def by_tensor_of_files(files):
    values = [base64.b64encode(file).decode() for file in files]
    return INFER, tensor("BYTES", [len(files)], values), JSON


def by_binary_tensor(images):
    one = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    one["parameters"] = {"binary_data_size": images.size}
    head = json.dumps({"inputs": [one]}).encode()
    return (
        INFER,
        head + images.tobytes(),
        {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        },
    )


def short_tensor(images):
    """A request with a truncated binary tensor."""
    path, body, headers = by_binary_tensor(images)
    return path, body[:-1], headers


def read(answer):
    """(probabilities, statuses) of an answer in either protocol."""
    if "outputs" in answer:
        outputs = {output["name"]: output for output in answer["outputs"]}
        rows = outputs["probabilities"]
        values = np.reshape(rows["data"], rows["shape"])
        return values, outputs.get("status", {"data": None})["data"]
    rows = answer["predictions"]
    if isinstance(rows[0], dict):
        statuses = [row["status"] for row in rows]
        return np.array([row["probabilities"] for row in rows]), statuses
    return np.array(rows), None


def malformed(images, files):
    """Requests that must be rejected, with the expected status codes."""
    bright = images.astype(int) + 200
    broken = tensor("UINT8", [3, *SHAPE], images.ravel().tolist())
    half_an_id = by_tensor(images)[1] | {"id": "\ud800"}
    return [
        ((PREDICT, b"{", JSON), 400),
        ((PREDICT, b"\xff\xfe", JSON), 400),
        ((PREDICT, b"[1]", JSON), 400),
        ((PREDICT, {"instances": []}, JSON), 400),
        ((PREDICT, {"instances": [[1], [1, 2]]}, JSON), 400),
        ((PREDICT, {"instances": [{"b64": "***"}]}, JSON), 400),
        ((PREDICT, {"instances": (images * 1e39).tolist()}, JSON), 400),
        (by_rows(bright), 400),
        (by_rows(images[:, :4]), 400),
        (by_rows(images, "no_such_signature"), 400),
        (by_rows(np.repeat(images, 17, 0)[:17]), 400),
        ((PREDICT, b" " * 2**20, JSON), 413),
        (("/v1/models/huge:predict", {"instances": [1]}, JSON), 404),
        ((INFER, b"{", JSON), 422),
        # FastAPI's answer would repeat these, but JSON cannot express them.
        ((INFER, b"NaN", JSON), 422),
        ((INFER, b'{"inputs": "\\ud800"}', JSON), 422),
        ((INFER, half_an_id, JSON), 400),
        ((INFER, {"inputs": []}, JSON), 400),
        ((INFER, broken, JSON), 400),
        (by_tensor(bright), 400),
        ((PREDICT, {"inputs": 1}, JSON), 400),
        (short_tensor(images), 400),
        ((INFER, b"abc", {"Inference-Header-Content-Length": "x"}), 400),
        (("/v2/repository/models/tiny/unload", b"", JSON), 403),
    ]
