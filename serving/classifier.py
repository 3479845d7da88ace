"""Serve a SavedModel of `keras-dropblock-export` as a KServe model."""

import base64
import binascii
import concurrent.futures
import pathlib
import uuid

import numpy as np
import tensorflow as tf
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from prometheus_client import Histogram

from batching import Batcher

ROWS = Histogram(
    "classifier_batch_rows",
    "Images per batch.",
    ["signature"],
    buckets=[2**i for i in range(9)],
)
# Default signature for each datatype of the Open Inference Protocol.
SIGNATURES = {"UINT8": "serve_uint8", "FP32": "serve", "BYTES": "serve_bytes"}
# Datatypes of outputs in the Open Inference Protocol.
_DATATYPES = {
    np.float32: "FP32",
    np.int32: "INT32",
    np.int64: "INT64",
    np.uint8: "UINT8",
    object: "BYTES",
    np.object_: "BYTES",
}
_ANY_SIDE = 32  # pixels of the first image, where a signature takes any size
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
                "name": _name(key, "serve_uint8"),
                "datatype": _DATATYPES[spec.dtype.as_numpy_dtype],
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
            return {"predictions": _by_row(outputs)}
        outputs = await signature(signature.column(payload["inputs"]))
        return {"outputs": _by_column(outputs)}

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
                _output(name, rows, _is_binary(request, name))
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


class Signature:
    """One signature of a SavedModel, called on batches of rows."""

    def __init__(self, key, function, batch_size, executor):
        ((self.name, self.spec),) = function.structured_input_signature[
            1
        ].items()
        outputs = function.structured_outputs
        self.outputs = outputs
        self._key = key
        self._function = function
        self._batcher = Batcher(
            self._call, batch_size, executor, ROWS.labels(key).observe
        )

    async def __call__(self, rows):
        return await self._batcher(rows)

    def _call(self, rows):
        outputs = self._function(**{self.name: tf.constant(rows)})
        return {
            _name(key, self._key): value.numpy()
            for key, value in outputs.items()
        }

    def warm_up(self):
        # A signature may take images of any size.
        shape = (1, *(side or _ANY_SIDE for side in self.spec.shape[1:]))
        empty = b"" if self.spec.dtype == tf.string else 0
        self._call(np.full(shape, empty, self._kind))

    @property
    def _kind(self):
        return self.spec.dtype.as_numpy_dtype

    def rows(self, instances):
        """Convert the instances of a request to an array.

        Raises:
            InvalidInput: if they do not fit the signature.
        """
        if not isinstance(instances, list):
            raise InvalidInput(f"There must be {self._count}, in a list.")
        self._check_count(instances)
        if self.spec.dtype == tf.string:
            return _files([self._of(instance) for instance in instances])
        try:
            rows = np.asarray([self._of(instance) for instance in instances])
        except ValueError:  # instances of different shapes
            rows = np.empty(0)
        return self._numbers(rows)

    def column(self, inputs):
        """Convert the `inputs` of a request to an array."""
        return self.rows(self._of(inputs))

    def tensor(self, rows):
        """Check a tensor of a request. Files may be bytes or base64."""
        if rows.ndim == 0:
            raise InvalidInput(f"There must be {self._count}.")
        self._check_count(rows)
        if self.spec.dtype != tf.string:
            return self._numbers(rows)
        if rows.ndim != 1:
            raise InvalidInput("Files must be a tensor of one dimension.")
        if all(isinstance(row, bytes) for row in rows):
            return rows
        return _files(rows.tolist())

    @property
    def _count(self):
        return f"1 to {self._batcher.batch_size} instances"

    def _check_count(self, rows):
        if not 0 < len(rows) <= self._batcher.batch_size:
            raise InvalidInput(f"There must be {self._count}, in a list.")

    def _numbers(self, rows):
        """Convert an array to the signature's type, or raise InvalidInput.

        A signature that takes any size has None for height and width.
        """
        whole = np.issubdtype(self._kind, np.integer)
        if (
            0 in rows.shape
            or not self.spec.shape.is_compatible_with(rows.shape)
            or rows.dtype.kind not in ("iu" if whole else "iuf")
            or (
                whole
                and rows.dtype != self._kind
                and not 0 <= rows.min() <= rows.max() <= 255
            )
        ):
            kind = "whole numbers from 0 to 255" if whole else "numbers"
            sides = [side or "1 or more" for side in self.spec.shape[1:]]
            shape = ", ".join(map(str, sides))
            raise InvalidInput(f"Each instance must be [{shape}] {kind}.")
        with np.errstate(over="ignore"):
            rows = rows.astype(self._kind, copy=False)
        if not whole and not np.isfinite(rows).all():
            raise InvalidInput("Each number must be finite in float32.")
        return rows

    def _of(self, instance):
        """Unpack {input name: value}, which TensorFlow Serving also accepts."""
        if isinstance(instance, dict) and [*instance] == [self.name]:
            return instance[self.name]
        return instance


def _files(instances):
    """Decode image files in base64 to an array of bytes."""
    files = np.empty(len(instances), object)
    for i, instance in enumerate(instances):
        if isinstance(instance, dict) and [*instance] == ["b64"]:
            instance = instance["b64"]
        if not isinstance(instance, str):
            raise InvalidInput('Each instance must be {"b64": FILE_IN_BASE64}.')
        try:
            files[i] = base64.b64decode(instance, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(
                f"Instance {i} is not valid base64: {error}."
            ) from error
    return files


def _name(key, signature):
    """The name of an output. The SavedModel calls a single one output_0.

    Only these signatures of a classifier give one output without a name.
    """
    if key != "output_0":
        return key
    return "features" if signature == "features" else "probabilities"


def _plain(key, rows):
    """Rows as JSON. Like in TensorFlow Serving, `NAME_bytes` is in base64."""
    if key.endswith("_bytes"):
        return [{"b64": base64.b64encode(row).decode()} for row in rows]
    if rows.dtype == object:
        return [row.decode() for row in rows]
    return rows.tolist()


def _by_row(outputs):
    columns = {key: _plain(key, rows) for key, rows in outputs.items()}
    if len(columns) == 1:
        (predictions,) = columns.values()
        return predictions
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _by_column(outputs):
    columns = {key: _plain(key, rows) for key, rows in outputs.items()}
    return [*columns.values()][0] if len(columns) == 1 else columns


def _is_binary(request, name):
    """Whether a request wants an output as a binary tensor, not in JSON."""
    if request.from_grpc:
        return True
    if not request.request_outputs:
        return bool(request.use_binary_outputs)
    return any(
        output.name == name and output.binary_data
        for output in request.request_outputs
    )


def _output(name, rows, is_binary):
    """Convert an array to KServe's output, for JSON or a binary tensor.

    JSON cannot hold bytes, so `NAME_bytes` is in base64 there.
    """
    kind = _DATATYPES[rows.dtype.type]
    if name.endswith("_bytes") and not is_binary:
        rows = np.array([base64.b64encode(row) for row in rows], object)
    return InferOutput(name, list(rows.shape), kind, rows)


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
