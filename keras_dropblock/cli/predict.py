"""keras-dropblock-predict IMAGE...: classify image files.

IMAGE is a JPEG or PNG file of any size. The model comes from a run (--workdir)
or from any source that keras_dropblock.load accepts (--model). For each image
and each of its most probable classes, one line is printed: file, label,
probability.

    keras-dropblock-predict --model=wrn_16_1_cifar10_dropblock cat.png dog.jpg
"""

from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli import trained

TAKES_ARGUMENTS = True
_TOP = flags.DEFINE_integer(
    "top", 1, "Number of most probable classes to print.", lower_bound=1
)


def predict(images=()):
    if not images:
        raise app.UsageError("At least one image file must be given.")
    from keras_dropblock import hub
    from keras_dropblock.errors import DataError

    model, _ = trained.load("float32")
    try:
        predictions = hub.predict(model, list(images), top=_TOP.value)
    except ValueError as error:
        raise DataError(str(error)) from error
    for image, classes in zip(images, predictions, strict=True):
        for label, probability in classes:
            print(f"{image}\t{label}\t{probability:.4f}")


def main():
    cli.run(predict)


if __name__ == "__main__":
    cli.refuse(__spec__)
