"""Run keras-dropblock-search from a checkout."""

from keras_dropblock.cli.search import main

if __name__ == "__main__":
    main()
