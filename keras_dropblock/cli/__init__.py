"""Commands. The only place with flags."""

import sys

from absl import app


def run(command):
    """Run a command; what the user can mend is one line, not a traceback.

    Exit status 2 for an error in recipe, data or work directory, as for a
    wrong flag.
    """

    def main(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unknown argument: {argv[1]!r}.")
        from keras_dropblock.data import DataError
        from keras_dropblock.recipes import RecipeError
        from keras_dropblock.workdir import WorkdirError

        try:
            command()
        except (RecipeError, DataError, WorkdirError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    app.run(main)
