"""Setup that must run before Keras is imported."""

import contextlib
import os
import pathlib
import re
import sys
import tempfile

# Lines that TensorFlow logs while it is imported. On processors with AVX-512
# it logs one of them before it reads its log level.
_START_UP = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|[IW]\d{4} .*(port|cpu_feature_guard)\.cc:"
    rb"|To enable the following instructions:"
)


@contextlib.contextmanager
def quiet_imports():
    """A context in which a command hides TensorFlow's start-up messages.

    This applies only to the commands of this package, and only if the user
    has not set TensorFlow's log level. TensorFlow must be imported inside it,
    by importing Keras. All other messages are shown at the end.
    """
    script = pathlib.Path(sys.argv[0]).name if sys.argv else ""
    as_module = sys.orig_argv[1:2] == ["-m"] and re.match(
        r"keras_dropblock(\.|$)", sys.orig_argv[2]
    )
    is_command = script.startswith("keras-dropblock-") or as_module
    if (
        not is_command
        or "TF_CPP_MIN_LOG_LEVEL" in os.environ
        or sys.stderr is None  # it is closed
    ):
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Not Python's `sys.stderr`: the messages are written by compiled code.
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file:
                if not _START_UP.match(line):
                    os.write(2, line)
