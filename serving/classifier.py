"""A SavedModel of `keras-dropblock-export` as a model of KServe."""

import base64
import binascii
import concurrent.futures
import pathlib
import uuid

import numpy as np
import tensorflow as tf
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from prometheus_client import Histogram

from batching import Batcher

ROWS = Histogram(
    "classifier_batch_rows",
    "Images computed together.",
    ["signature"],
    buckets=[2**i for i in range(9)],
)
# Which signature a tensor of the Open Inference Protocol is for.
SIGNATURES = {"UINT8": "serve_uint8", "FP32": "serve", "BYTES": "serve_bytes"}


class Classifier(Model):
    """Answers both protocols from all signatures of a SavedModel.

    TensorFlow Serving's: `instances`, and `signature_name` if another than
    `serving_default` is meant. The Open Inference Protocol: one input,
    `images`, whose datatype tells the signature (see `SIGNATURES`) unless the
    request has a parameter `signature_name`; files are base64 in JSON (KServe
    0.21 takes no files in the protocol's binary form, other tensors it does).

    Args:
        name: of the model, in URLs.
        folder: with versions 1, 2, ... below it; the newest is taken.
        batch_size: images computed together, and most of one request.
    """

    def __init__(self, name, folder, batch_size):
        super().__init__(name)
        self._served = tf.saved_model.load(str(newest_version(folder)))
        # One at a time: TensorFlow itself uses all cores.
        executor = concurrent.futures.ThreadPoolExecutor(1)
        self._signatures = {
            key: Signature(key, function, batch_size, executor)
            for key, function in self._served.signatures.items()
        }
        for signature in self._signatures.values():
            signature.warm_up()
        self.ready = True

    def get_input_types(self):
        spec = self._signatures["serve_uint8"].spec
        shape = [-1 if side is None else side for side in spec.shape]
        return [{"name": "images", "datatype": "UINT8", "shape": shape}]

    def get_output_types(self):
        classes = self._signatures["serve_uint8"].classes
        shape = [-1, classes]
        return [{"name": "probabilities", "datatype": "FP32", "shape": shape}]

    async def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            return await self._infer(payload)
        if not isinstance(payload, dict) or "instances" not in payload:
            raise InvalidInput(
                "The body must be a JSON object with `instances`, and its "
                "content type application/json."
            )
        signature = self._signature(
            payload.get("signature_name", "serving_default")
        )
        outputs = await signature(signature.rows(payload["instances"]))
        columns = {key: _plain(rows) for key, rows in outputs.items()}
        if len(columns) == 1:
            (predictions,) = columns.values()
        else:
            predictions = [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ]
        return {"predictions": predictions}

    async def _infer(self, request):
        if len(request.inputs) != 1 or request.inputs[0].name != "images":
            raise InvalidInput("There must be one input, `images`.")
        if any("\ud800" <= c <= "\udfff" for c in request.id or ""):
            raise InvalidInput("`id` must be a text in UTF-8.")  # it comes back
        (images,) = request.inputs
        signature = self._signature(
            (request.parameters or {}).get(
                "signature_name", SIGNATURES.get(images.datatype)
            )
        )
        try:
            rows = images.as_numpy()
        except Exception as error:  # of KServe's parsing, of many kinds
            raise InvalidInput(
                f"`images` is no tensor of its shape and datatype: {error}"
            ) from error
        outputs = await signature(signature.rows(rows.tolist()))
        return InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            infer_outputs=[_output(*item) for item in outputs.items()],
        )

    def _signature(self, key):
        if not isinstance(key, str) or key not in self._signatures:
            raise InvalidInput(
                "`signature_name` must be one of "
                f"{', '.join(self._signatures)}. Received: {key!r:.100}."
            )
        return self._signatures[key]


class Decoder(DataPlane):
    """KServe's, but what cannot be decoded is the client's error, not ours."""

    def decode(self, *arguments, **keywords):
        try:
            return super().decode(*arguments, **keywords)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(
                f"The body is no request: {type(error).__name__}: "
                f"{str(error)[:200]}"
            ) from error


class Signature:
    """One signature of a SavedModel, called on batches of rows."""

    def __init__(self, key, function, batch_size, executor):
        ((self.name, self.spec),) = function.structured_input_signature[
            1
        ].items()
        outputs = function.structured_outputs
        self.classes = max(spec.shape[-1] or 0 for spec in outputs.values())
        self._function = function
        self._batcher = Batcher(
            self._call, batch_size, executor, ROWS.labels(key).observe
        )

    async def __call__(self, rows):
        return await self._batcher(rows)

    def _call(self, rows):
        outputs = self._function(**{self.name: tf.constant(rows)})
        return {_name(key): value.numpy() for key, value in outputs.items()}

    def warm_up(self):
        shape = (1, *self.spec.shape[1:])
        empty = b"" if self.spec.dtype == tf.string else 0
        self._call(np.full(shape, empty, self._kind))

    @property
    def _kind(self):
        return self.spec.dtype.as_numpy_dtype

    def rows(self, instances):
        """Instances of a request as an array; InvalidInput if they are none."""
        most = self._batcher.batch_size
        if not isinstance(instances, list) or not 0 < len(instances) <= most:
            raise InvalidInput(
                f"There must be 1 to {most} instances, in a list."
            )
        if self.spec.dtype == tf.string:
            return _files([self._of(instance) for instance in instances])
        try:
            rows = np.asarray([self._of(instance) for instance in instances])
        except ValueError:  # rows of several lengths
            rows = np.empty(0)
        whole = np.issubdtype(self._kind, np.integer)
        if (
            not self.spec.shape.is_compatible_with(rows.shape)
            or rows.dtype.kind not in ("iu" if whole else "iuf")
            or (whole and not 0 <= rows.min() <= rows.max() <= 255)
        ):
            kind = "whole numbers from 0 to 255" if whole else "numbers"
            raise InvalidInput(
                f"Each instance must be {list(self.spec.shape[1:])} {kind}."
            )
        with np.errstate(over="ignore"):
            rows = rows.astype(self._kind)
        if not np.isfinite(rows).all():
            raise InvalidInput("Each number must be finite, as a float32.")
        return rows

    def _of(self, instance):
        """An instance may name its only input, as TensorFlow Serving has it."""
        if isinstance(instance, dict) and [*instance] == [self.name]:
            return instance[self.name]
        return instance


def _files(instances):
    """Image files in base64 as an array of bytes."""
    files = np.empty(len(instances), object)
    for i, instance in enumerate(instances):
        if isinstance(instance, dict) and [*instance] == ["b64"]:
            instance = instance["b64"]
        if not isinstance(instance, str):
            raise InvalidInput(
                'Each instance must be {"b64": a file in base64}.'
            )
        try:
            files[i] = base64.b64decode(instance, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(
                f"Instance {i} is no base64: {error}."
            ) from error
    return files


def _name(key):
    """A single output has no name of its own in the SavedModel."""
    return "probabilities" if key == "output_0" else key


def _plain(rows):
    if rows.dtype == object:
        return [row.decode() for row in rows]
    return rows.tolist()


def _output(name, rows):
    plain = _plain(rows)
    if rows.dtype == object:
        return InferOutput(name, list(rows.shape), "BYTES", plain)
    output = InferOutput(name, list(rows.shape), "FP32")
    output.set_data_from_numpy(rows, binary_data=False)
    return output


def newest_version(folder):
    """The version that TensorFlow Serving would take."""
    versions = [
        path
        for path in pathlib.Path(folder).glob("*/saved_model.pb")
        if path.parent.name.isdecimal()
    ]
    if not versions:
        raise SystemExit(
            f"{folder} must hold a SavedModel in a folder 1, 2, ...: run "
            "keras-dropblock-export first."
        )
    return max(versions, key=lambda path: int(path.parent.name)).parent
