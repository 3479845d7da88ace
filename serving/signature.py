"""A signature of a SavedModel: check its inputs and compute its outputs."""

import base64
import binascii

import numpy as np
import tensorflow as tf
from kserve.errors import InvalidInput
from prometheus_client import Histogram

from batching import Batcher

ROWS = Histogram(
    "classifier_batch_rows",
    "Images per batch.",
    ["signature"],
    buckets=[2**i for i in range(9)],
)
_ANY_SIDE = 32  # pixels of the first image, where a signature takes any size


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
            output_name(key, self._key): value.numpy()
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


def output_name(key, signature):
    """The name of an output. The SavedModel calls a single one output_0.

    Only these signatures of a classifier give one output without a name.
    """
    if key != "output_0":
        return key
    return "features" if signature == "features" else "probabilities"
