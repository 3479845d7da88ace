"""`python -m keras_dropblock COMMAND` is `keras-dropblock-COMMAND`."""

import importlib
import sys

COMMANDS = (
    "analyze",
    "evaluate",
    "export",
    "list",
    "predict",
    "report",
    "search",
    "train",
)


def main():
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command not in COMMANDS:
        text = f"Usage: python -m keras_dropblock {'|'.join(COMMANDS)} [flags]"
        if command in ("-h", "--help"):
            print(text)
            return
        sys.exit(f"{text}\nReceived: {command or 'no command'}.")
    sys.argv[:2] = [f"keras-dropblock-{command}"]
    importlib.import_module(f"keras_dropblock.cli.{command}").main()


if __name__ == "__main__":
    main()
