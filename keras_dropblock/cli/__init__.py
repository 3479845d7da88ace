"""Commands. The only place with flags."""

import signal
import sys

from absl import app, flags, logging


def run(command):
    """Run a command; what the user can mend is one line, not a traceback."""
    flag_values = flags.FLAGS
    module = sys.modules[command.__module__]
    shared = (f"{__name__}.recipe", f"{__name__}.workdir")
    for name in (command.__module__, *shared):
        # Else --help would list only what the script itself defines: nothing.
        for flag in flag_values.get_flags_for_module(name):
            flag_values.register_key_flag_for_module(sys.argv[0], flag)
    # What absl prints above the flags.
    sys.modules["__main__"].__doc__ = f"{module.__doc__}\n"

    def main(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unknown argument: {argv[1]!r}.")
        if not flag_values["verbosity"].present:
            # TensorFlow Datasets tells of every pass over the data.
            logging.set_verbosity(logging.WARNING)
        try:
            command()
        except (Exception, KeyboardInterrupt) as error:
            code, message = _outcome(error)
            if code is None:
                raise
            print(message, file=sys.stderr)
            sys.exit(code)

    app.run(main)


def _outcome(error):
    """(exit code, line to print) of an exception; (None, None) of a bug."""
    from keras_dropblock.backup import NotFiniteError
    from keras_dropblock.data import DataError
    from keras_dropblock.exporting import DifferenceError, ExportError
    from keras_dropblock.recipes import RecipeError
    from keras_dropblock.stopping import Interrupted
    from keras_dropblock.workdir import WorkdirError

    if isinstance(error, Interrupted):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT, "Stopped at once by Ctrl-C."
    for code, kinds in (
        (2, (DataError, ExportError, RecipeError, WorkdirError)),
        (2, DifferenceError),
        (3, NotFiniteError),
        (4, OSError),
    ):
        if isinstance(error, kinds):
            return code, f"error: {error}"
    return None, None
