"""Run keras-dropblock-evaluate from a checkout."""

from keras_dropblock.cli.evaluate import main

if __name__ == "__main__":
    main()
