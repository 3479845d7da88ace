"""Run keras-dropblock-export from a checkout."""

from keras_dropblock.cli.export import main

if __name__ == "__main__":
    main()
