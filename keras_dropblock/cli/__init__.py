"""Commands. The only place with flags."""

import sys

from absl import app, flags, logging


def run(command):
    """Run a command; what the user can mend is one line, not a traceback.

    Exit status 2 for an error in recipe, data or work directory, as for a
    wrong flag.
    """
    flag_values = flags.FLAGS
    shared = (f"{__name__}.recipe", f"{__name__}.workdir")
    for module in (command.__module__, *shared):
        # Else --help would list only what the script itself defines: nothing.
        for flag in flag_values.get_flags_for_module(module):
            flag_values.register_key_flag_for_module(sys.argv[0], flag)

    def main(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unknown argument: {argv[1]!r}.")
        if not flag_values["verbosity"].present:
            # TensorFlow Datasets tells of every pass over the data.
            logging.set_verbosity(logging.WARNING)
        from keras_dropblock.data import DataError
        from keras_dropblock.exporting import ExportError
        from keras_dropblock.recipes import RecipeError
        from keras_dropblock.workdir import WorkdirError

        try:
            command()
        except (DataError, ExportError, RecipeError, WorkdirError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    app.run(main)
