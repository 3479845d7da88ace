"""Setup that must run before Keras is imported."""

import os
import pathlib
import sys


def silence_tensorflow():
    """Hide TensorFlow's start-up messages in the output of a command.

    This applies only to the commands of this package, and only if the user
    has not set TensorFlow's log level. It must run before TensorFlow is
    imported. It is called here because Python imports the package before the
    module of the command.
    """
    script = pathlib.Path(sys.argv[0]).name if sys.argv else ""
    as_module = sys.orig_argv[1:3] == ["-m", "keras_dropblock"]
    if script.startswith("keras-dropblock-") or as_module:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


silence_tensorflow()
