"""The commands and their flags. No other package defines flags."""

import signal
import sys
import traceback

from absl import app, flags, logging

_SHARED = ("out", "recipe", "trained", "workdir")


def run(command):
    """Run a command. Errors that a user can fix are printed on one line."""
    module = sys.modules[command.__module__]
    flag_values = flags.FLAGS
    for name in (module.__name__, *(f"{__name__}.{x}" for x in _SHARED)):
        for flag in flag_values.get_flags_for_module(name):
            flag_values.register_key_flag_for_module(sys.argv[0], flag)
    if {"--help", "-help", "-h", "--helpshort"} & {*sys.argv[1:]}:
        # absl would print the docstring of the console script, which has none.
        print(f"{module.__doc__.strip()}\n")
        print(flag_values.module_help(sys.argv[0]))
        return

    def main(argv):
        if len(argv) > 1 and not getattr(module, "TAKES_ARGUMENTS", False):
            raise app.UsageError(f"Unknown argument: {argv[1]!r}.")
        if not flag_values["verbosity"].present:
            # At the level INFO, TensorFlow Datasets logs every pass over the
            # data.
            logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(PlainMessages())
        try:
            command(argv[1:]) if argv[1:] else command()
        except (Exception, KeyboardInterrupt) as error:
            code, message = _outcome(error)
            if code is None and not _is_one_of_several():
                raise
            print(message or traceback.format_exc(), file=sys.stderr)
            _exit(1 if code is None else code, error)

    app.run(main)


class PlainMessages(logging.PythonFormatter):
    """Messages of this package without the time and the place in the code."""

    def format(self, record):
        if record.name.split(".")[0] == "keras_dropblock":
            return record.getMessage()
        return super().format(record)


def refuse(spec):
    """Exit from `python -m keras_dropblock.cli.COMMAND` with a hint."""
    command = spec.name.rpartition(".")[2]
    sys.exit(f"error: Run `python -m keras_dropblock {command}` instead.")


def _is_one_of_several():
    from keras_dropblock.training import processes

    return processes.count() > 1


def _exit(code, error):
    from keras_dropblock.errors import Interrupted
    from keras_dropblock.training import processes

    # On `Interrupted` all processes stop together and can exit normally.
    if not isinstance(error, Interrupted):
        processes.leave(code)
    sys.exit(code)


def _outcome(error):
    """(exit code, line to print) for an exception; (None, None) for a bug."""
    from keras_dropblock.errors import (
        Interrupted,
        KerasDropBlockError,
        WriteError,
    )

    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT, "Stopped immediately by Ctrl-C."
    if isinstance(error, Interrupted):
        return error.exit_code, str(error)
    if isinstance(error, KerasDropBlockError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, OSError):
        return WriteError.exit_code, f"error: {error}"
    return None, None
