"""Run keras-dropblock-train from a checkout."""

from keras_dropblock.cli.train import main

if __name__ == "__main__":
    main()
