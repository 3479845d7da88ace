"""The same as keras-dropblock-publish, from a checkout."""

from keras_dropblock.cli.publish import main

if __name__ == "__main__":
    main()
