"""Serve an exported SavedModel over HTTP: `make serve`, or see docs/serving.md.

Routes of KServe's model server: `/v1/models/NAME:predict` in TensorFlow
Serving's format, `/v2/models/NAME/infer` in the Open Inference Protocol,
health and metadata of both, and `/metrics`. SIGTERM and Ctrl-C stop it after
the requests at hand.
"""

import argparse
import logging
import os
import pathlib
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import uvicorn
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import ModelRepository
from kserve.errors import InvalidInput, ModelNotFound
from kserve.model_server import app
from kserve.protocol.model_repository_extension import (
    ModelRepositoryExtension,
)
from kserve.protocol.rest.server import RESTServer

from classifier import Classifier, Decoder
from limits import Limits


def main():
    flags = parse()
    name = flags.name or pathlib.Path(flags.saved_model).name
    models = ModelRepository()
    models.update(Classifier(name, flags.saved_model, flags.batch_size))
    # KServe's routes, in a server of our own: KServe's listens on every
    # address, has no limits, and its end is that of an unhandled signal.
    RESTServer(
        "kserve.model_server:app",
        Decoder(model_registry=models),
        ModelRepositoryExtension(models),
        flags.port,
    ).create_application()
    app.add_exception_handler(RequestValidationError, _no_request)
    limited = Limits(
        app,
        requests=flags.max_requests,
        megabytes=flags.max_megabytes,
        seconds=flags.body_seconds,
    )
    logging.getLogger("kserve").addFilter(_is_ours)
    config = uvicorn.Config(
        limited,
        host=flags.host,
        port=flags.port,
        lifespan="off",
        access_log=False,
        log_level="error",  # of a request that is no HTTP it warns
        timeout_graceful_shutdown=flags.grace_seconds,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Before uvicorn has handlers of its own, and after: it raises the
        # signal again once it has finished.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    print(f"Serving {name} on http://{flags.host}:{flags.port}", flush=True)
    server.run()
    print("Stopped.", flush=True)


async def _no_request(request, error):
    """An answer that does not repeat the body.

    FastAPI's own does. It fails for a body that JSON cannot say, such as NaN
    or half a character, and is as long as the body else.
    """
    found = "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors()[:3]
    )
    reason = f"The body is no request of the protocol. {found}"[:1000]
    # In ASCII, since keys of the body may be anything.
    reason = reason.encode("ascii", "backslashreplace").decode()
    return JSONResponse({"error": reason}, 422)


def _is_ours(record):
    """Strangers' errors are answered, and fill no log."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, InvalidInput | ModelNotFound)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--saved_model", required=True, help="folder with versions below it")
    add("--name", help="of the model in URLs; default: the folder's")
    add("--host", default="127.0.0.1", help="0.0.0.0 in a container")
    add("--port", type=int, default=8080)
    add("--batch_size", type=int, default=64, help="most images of a request")
    add("--max_requests", type=int, default=64, help="at one time")
    add("--max_megabytes", type=float, default=16.0, help="of one request")
    add("--body_seconds", type=float, default=30.0, help="to send a request")
    add("--grace_seconds", type=int, default=30, help="to finish requests")
    return parser.parse_args()


if __name__ == "__main__":
    main()
