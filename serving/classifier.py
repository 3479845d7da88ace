"""Serve a SavedModel of `keras-dropblock-export` as a KServe model."""

import concurrent.futures
import pathlib
import uuid

import tensorflow as tf
from kserve import InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

import answers
from signature import Signature, output_name

# Default signature for each datatype of the Open Inference Protocol.
SIGNATURES = {"UINT8": "serve_uint8", "FP32": "serve", "BYTES": "serve_bytes"}
# TensorFlow Serving's row format and column format.
_FORMS = ("instances", "inputs")


class Classifier(Model):
    """Serves all signatures of a SavedModel in two protocols.

    TensorFlow Serving's REST protocol: `instances` in row format or `inputs`
    in column format, with an optional `signature_name`, by default
    `serving_default`.

    The Open Inference Protocol: one input, `images`. Its datatype selects the
    signature (see `SIGNATURES`) unless the request has a parameter
    `signature_name`. Files are base64 in JSON, and raw bytes in a binary
    tensor.

    Args:
        name: name of the model in URLs.
        folder: folder with the versions 1, 2, ... The newest is served.
        batch_size: maximum number of images of a batch and of a request.

    Attributes:
        version: version of the SavedModel, as text.
        definitions: dict from name to `SignatureDef`.
    """

    def __init__(self, name, folder, batch_size):
        super().__init__(name)
        path = newest_version(folder)
        self.version = path.name
        self.definitions = _definitions(path)
        self._served = tf.saved_model.load(str(path))
        # One thread: TensorFlow itself uses all cores.
        executor = concurrent.futures.ThreadPoolExecutor(1)
        self._signatures = {
            key: Signature(key, function, batch_size, executor)
            for key, function in self._served.signatures.items()
            if key != "__call__"  # the same as `serve`
        }
        for signature in self._signatures.values():
            signature.warm_up()
        self.ready = True

    def get_input_types(self):
        spec = self._signatures["serve_uint8"].spec
        shape = [-1 if side is None else side for side in spec.shape]
        return [{"name": "images", "datatype": "UINT8", "shape": shape}]

    def get_output_types(self):
        return [
            {
                "name": output_name(key, "serve_uint8"),
                "datatype": answers.DATATYPES[spec.dtype.as_numpy_dtype],
                "shape": [-1 if side is None else side for side in spec.shape],
            }
            for key, spec in self._signatures["serve_uint8"].outputs.items()
        ]

    async def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            return await self._infer(payload)
        if not isinstance(payload, dict) or not {*payload} & {*_FORMS}:
            raise InvalidInput(
                "The body must be a JSON object with `instances` or `inputs`, "
                "and its content type application/json."
            )
        signature = self._signature(
            payload.get("signature_name", "serving_default")
        )
        if "instances" in payload:
            outputs = await signature(signature.rows(payload["instances"]))
            return {"predictions": answers.by_row(outputs)}
        outputs = await signature(signature.column(payload["inputs"]))
        return {"outputs": answers.by_column(outputs)}

    async def _infer(self, request):
        if len(request.inputs) != 1 or request.inputs[0].name != "images":
            raise InvalidInput("There must be one input, `images`.")
        # The response repeats the id, so it must be valid UTF-8.
        if any("\ud800" <= c <= "\udfff" for c in request.id or ""):
            raise InvalidInput("`id` must be a text in UTF-8.")
        (images,) = request.inputs
        signature = self._signature(
            (request.parameters or {}).get(
                "signature_name", SIGNATURES.get(images.datatype)
            )
        )
        try:
            rows = images.as_numpy()
        except Exception as error:  # KServe's parsing raises many types
            raise InvalidInput(
                "`images` must have data for its shape and datatype. KServe "
                f"reports: {error}"
            ) from error
        outputs = await signature(signature.tensor(rows))
        return InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self.version,
            infer_outputs=[
                answers.infer_output(
                    name, rows, answers.wants_binary(request, name)
                )
                for name, rows in outputs.items()
            ],
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def _signature(self, key):
        if not isinstance(key, str) or key not in self._signatures:
            raise InvalidInput(
                "`signature_name` must be one of "
                f"{', '.join(self._signatures)}. Received: {key!r:.100}."
            )
        return self._signatures[key]


def _definitions(path):
    """The `SignatureDef`s in the file of a SavedModel, by name."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    content.ParseFromString((path / "saved_model.pb").read_bytes())
    return content.meta_graphs[0].signature_def


def newest_version(folder):
    """Path of the newest version, which TensorFlow Serving would serve."""
    versions = [
        path
        for path in pathlib.Path(folder).glob("*/saved_model.pb")
        if path.parent.name.isdecimal()
    ]
    if not versions:
        raise SystemExit(
            f"{folder} must hold a SavedModel in a folder 1, 2, ... Run "
            "keras-dropblock-export first."
        )
    return max(versions, key=lambda path: int(path.parent.name)).parent
