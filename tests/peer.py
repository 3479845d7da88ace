"""One of several processes, which `test_processes.py` starts and stops.

It runs `keras-dropblock-train` without TensorFlow, which makes the start three
times faster. It reads these environment variables:

- `READ`: file to which the indices of the training images that the process
  reads are written, one line per batch;
- `SIGNAL`, such as `9,0,3`: the process sends itself signal 9 at the start of
  batch 3 of epoch 0;
- `PAUSE`: seconds to wait before each batch.
"""

import os
import sys
import time


class Hidden:
    def find_spec(self, name, path=None, target=None):
        # With etils installed, JAX opens files through TensorFlow.
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "etils"):
            raise ModuleNotFoundError(name, name=name)


class Watched:
    """Images that record which of them are read."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, chosen):
        with open(os.environ["READ"], "a") as file:
            print(*chosen, file=file)
        return self.images[chosen]


def watch(read):
    def watched(self, index):
        if self.training and not isinstance(self.images, Watched):
            self.images = Watched(self.images)
        return read(self, index)

    return watched


def pause_and_signal(self, batch, logs=None):
    time.sleep(float(os.environ.get("PAUSE", 0)))
    here = f"{self.batches.epoch},{self.batches.first_batch + batch}"
    number, _, place = os.environ.get("SIGNAL", "").partition(",")
    if place == here:
        os.kill(os.getpid(), int(number))


def main():
    sys.meta_path.insert(0, Hidden())
    from keras_dropblock.cli import train
    from keras_dropblock.data.batches import ArrayBatches
    from keras_dropblock.training.callbacks import EpochOfData

    ArrayBatches.read = watch(ArrayBatches.read)
    EpochOfData.on_train_batch_begin = pause_and_signal
    train.main()


if __name__ == "__main__":
    main()
