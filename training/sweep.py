"""Run keras-dropblock-sweep from a checkout."""

from keras_dropblock.cli.sweep import main

if __name__ == "__main__":
    main()
