"""Convert the outputs of a signature to the answers of both protocols."""

import base64

import numpy as np
from kserve import InferOutput

# Datatypes of outputs in the Open Inference Protocol.
DATATYPES = {
    np.float32: "FP32",
    np.int32: "INT32",
    np.int64: "INT64",
    np.uint8: "UINT8",
    object: "BYTES",
    np.object_: "BYTES",
}


def _plain(key, rows):
    """Rows as JSON. Like in TensorFlow Serving, `NAME_bytes` is in base64."""
    if key.endswith("_bytes"):
        return [{"b64": base64.b64encode(row).decode()} for row in rows]
    if rows.dtype == object:
        return [row.decode() for row in rows]
    return rows.tolist()


def by_row(outputs):
    """The answer in TensorFlow Serving's row format: one item for each image.

    An item is a dict, or the value alone if there is only one output.
    """
    columns = {key: _plain(key, rows) for key, rows in outputs.items()}
    if len(columns) == 1:
        (predictions,) = columns.values()
        return predictions
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def by_column(outputs):
    """The answer in column format: a dict of outputs, or the only output."""
    columns = {key: _plain(key, rows) for key, rows in outputs.items()}
    return [*columns.values()][0] if len(columns) == 1 else columns


def wants_binary(request, name):
    """Whether a request wants an output as a binary tensor, not in JSON."""
    if request.from_grpc:
        return True
    if not request.request_outputs:
        return bool(request.use_binary_outputs)
    return any(
        output.name == name and output.binary_data
        for output in request.request_outputs
    )


def infer_output(name, rows, is_binary):
    """Convert an array to KServe's output, for JSON or a binary tensor.

    JSON cannot hold bytes, so `NAME_bytes` is in base64 there.
    """
    kind = DATATYPES[rows.dtype.type]
    if name.endswith("_bytes") and not is_binary:
        rows = np.array([base64.b64encode(row) for row in rows], object)
    return InferOutput(name, list(rows.shape), kind, rows)
