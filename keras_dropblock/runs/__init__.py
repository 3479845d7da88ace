"""Work directories of runs: writing them during training, reading them."""

from keras_dropblock.runs.run import Run, finished

__all__ = ["Run", "finished"]
