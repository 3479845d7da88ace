"""Requests that clients send but KServe's model server does not support."""

import json
import re

import orjson
from google.protobuf import json_format
from kserve import InferInput, InferRequest
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import RequestedOutput

_JSON_LENGTH = "inference-header-content-length"


class Decoder(DataPlane):
    """KServe's data plane, which also decodes what its clients send.

    A binary tensor stays an array. KServe converts it to a list of numbers,
    which takes longer than running the network. Two further kinds of requests
    are supported: binary tensors of files (BYTES), and JSON without the header
    `Inference-Header-Content-Length`, as `tritonclient` sends it. A request
    that cannot be decoded is answered as the client's error.
    """

    def decode(self, *arguments, **keywords):
        try:
            return super().decode(*arguments, **keywords)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(
                "The body cannot be decoded as a request. "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from error

    def decode_inference_request(self, body, headers, model_name):
        if not isinstance(body, bytes):
            return super().decode_inference_request(body, headers, model_name)
        length = int(headers.get(_JSON_LENGTH, len(body)))
        if not 0 < length <= len(body):
            raise InvalidInput(
                f"`{_JSON_LENGTH}` must be the number of bytes of the JSON "
                f"part, at most {len(body)}. Received: {length}."
            )
        return infer_request(
            orjson.loads(body[:length]), body[length:], model_name
        )


def infer_request(content, binary, model_name):
    """Make a request of the Open Inference Protocol with one input.

    Args:
        content: JSON part of the body, a dict.
        binary: the bytes after the JSON part. They are the tensor, unless the
            JSON part has `data`.
        model_name: name of the model.

    Returns:
        `kserve.InferRequest`.

    Raises:
        InvalidInput: if there is not exactly one input, or the number of
            bytes is wrong.
    """
    if len(content["inputs"]) != 1:
        raise InvalidInput("There must be one input, `images`.")
    (given,) = content["inputs"]
    parameters = dict(given.get("parameters") or {})
    raw = None
    if given.get("data") is None:
        size = parameters.get("binary_data_size")
        if type(size) is not int or size != len(binary):
            raise InvalidInput(
                "`images` must have `data`, or a parameter `binary_data_size` "
                "that is the number of bytes after the JSON part, "
                f"{len(binary)}. Received: {str(size)[:100]}."
            )
        raw = [binary]
    outputs = content.get("outputs")
    return InferRequest(
        model_name,
        [
            InferInput(
                given["name"],
                given["shape"],
                given["datatype"],
                given.get("data"),
                parameters,
            )
        ],
        request_id=content.get("id"),
        raw_inputs=raw,
        parameters=content.get("parameters"),
        request_outputs=outputs
        and [
            RequestedOutput(output["name"], output.get("parameters"))
            for output in outputs
        ],
    )


def add_routes(app, models):
    """Add TensorFlow Serving's routes for the status and metadata of a model.

    Args:
        app: `fastapi.FastAPI`, before KServe adds its own routes.
        models: `kserve.ModelRepository`.
    """

    def find(name):
        model = models.get_model(name)
        if model is None:
            raise ModelNotFound(name)
        return model

    def status(name: str):
        model = find(name)
        version = {
            "version": model.version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return {
            "name": name,  # `name` and `ready` are KServe's keys
            "ready": model.ready,
            "model_version_status": [version],
        }

    def metadata(name: str):
        model = find(name)
        signatures = {
            key: json_format.MessageToDict(
                signature,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for key, signature in model.definitions.items()
        }
        return {
            "model_spec": {
                "name": name,
                "signature_name": "",
                "version": model.version,
            },
            "metadata": {"signature_def": {"signature_def": signatures}},
        }

    app.add_api_route("/v1/models/{name}", status, methods=["GET"])
    app.add_api_route("/v1/models/{name}/metadata", metadata, methods=["GET"])


class Versions:
    """ASGI middleware that removes `/versions/N` from the path.

    Only one version of a model is loaded. Other versions get status 404.

    Args:
        app: the ASGI application.
        models: `kserve.ModelRepository`.
    """

    _PATH = re.compile(r"(/v[12]/models/([^/:]+))/versions/([^/:]+)(.*)")

    def __init__(self, app, models):
        self._app = app
        self._models = models

    async def __call__(self, scope, receive, send):
        match = scope["type"] == "http" and self._PATH.fullmatch(scope["path"])
        if match:
            before, name, version, after = match.groups()
            model = self._models.get_model(name)
            if model is not None and version != model.version:
                await _not_found(send, name, model.version)
                return
            path = before + after
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


async def _not_found(send, name, version):
    reason = f"Only version {version} of {name} is served."
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    start = {"type": "http.response.start", "status": 404, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
