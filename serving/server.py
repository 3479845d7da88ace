"""Serve an exported SavedModel over HTTP: `make serve`, or see docs/serving.md.

`/v1/models/NAME:predict` takes requests in TensorFlow Serving's format, and
`/v2/models/NAME/infer` in the Open Inference Protocol. Both also serve health
and metadata, and accept `/versions/N` in the path. `/metrics` has metrics for
Prometheus. On SIGTERM and Ctrl-C the server finishes the current requests and
stops.
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

from classifier import Classifier
from limits import Limits
from protocol import Decoder, Versions, add_routes


def main():
    flags = parse()
    name = flags.name or pathlib.Path(flags.saved_model).name
    models = ModelRepository()
    models.update(Classifier(name, flags.saved_model, flags.batch_size))
    add_routes(app, models)
    # Use KServe's routes, but not its server, which listens on all addresses,
    # has no limits, and exits as if the signal were not handled.
    RESTServer(
        "kserve.model_server:app",
        Decoder(model_registry=models),
        ModelRepositoryExtension(models),
        flags.port,
    ).create_application()
    app.add_exception_handler(RequestValidationError, _no_request)
    limited = Limits(
        Versions(app, models),
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
        log_level="error",  # uvicorn logs a warning for each invalid request
        timeout_graceful_shutdown=flags.grace_seconds,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # This handler is needed before uvicorn installs its own, and at the
        # end: uvicorn raises the signal again after it has stopped.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    print(f"Serving {name} on http://{flags.host}:{flags.port}", flush=True)
    server.run()
    print("Stopped.", flush=True)


async def _no_request(request, error):
    """Answer to an invalid body, without repeating it.

    FastAPI's own answer repeats the body, so it can be as long as the body. It
    fails for a body that cannot be written as JSON, such as NaN or an unpaired
    surrogate.
    """
    found = "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors()[:3]
    )
    reason = f"The body does not follow the protocol. {found}"[:1000]
    # Use ASCII, since keys of the body can contain any characters.
    reason = reason.encode("ascii", "backslashreplace").decode()
    return JSONResponse({"error": reason}, 422)


def _is_ours(record):
    """Log filter that drops the errors of clients, which get an answer."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, InvalidInput | ModelNotFound)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--saved_model", required=True, help="folder with versions 1, 2, ...")
    add("--name", help="name of the model in URLs; default: the folder's name")
    add("--host", default="127.0.0.1", help="use 0.0.0.0 in a container")
    add("--port", type=int, default=8080)
    add("--batch_size", type=int, default=64, help="max. images of a request")
    add("--max_requests", type=int, default=64, help="max. requests at a time")
    add("--max_megabytes", type=float, default=16.0, help="max. MiB of a body")
    add("--body_seconds", type=float, default=30.0, help="time to send a body")
    add("--grace_seconds", type=int, default=30, help="time to finish requests")
    return parser.parse_args()


if __name__ == "__main__":
    main()
