"""keras-dropblock-predict IMAGE...: predict image files.

IMAGE is a JPEG or PNG file of any size, or a folder of such files. The model
comes from a run (--workdir) or from any source that keras_dropblock.load
accepts (--model). Each printed line starts with the name of the file. For
classification, there is one line for each of the most probable classes, with
label and probability.

    keras-dropblock-predict --model=wrn_16_1_cifar10_dropblock cat.png dogs/
"""

import pathlib

from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli import trained

TAKES_ARGUMENTS = True
_TOP = flags.DEFINE_integer(
    "top", 1, "Number of most probable classes to print.", lower_bound=1
)
_PICTURES = flags.DEFINE_string(
    "pictures",
    None,
    "Folder to write each image to with its prediction drawn into it, as "
    "NAME.png. If that file exists, the next one is NAME_2.png: no file is "
    "overwritten. Not for classification.",
)


def predict(images=()):
    if not images:
        raise app.UsageError("At least one image file must be given.")
    from keras_dropblock import hub, tasks
    from keras_dropblock.errors import DataError

    images = _files(images)
    model, _ = trained.load("float32")
    task = tasks.find(model.card.task)()
    try:
        predictions = hub.predict(model, images, top=_TOP.value)
    except ValueError as error:
        raise DataError(str(error)) from error
    for image, prediction in zip(images, predictions, strict=True):
        for line in task.lines(prediction, model.card):
            print("\t".join([image, *line]))
        if _PICTURES.value is not None:
            _draw(task, model.card, image, prediction)


def _files(arguments):
    """The files of the arguments. A folder is replaced by its images."""
    from keras_dropblock.data.folders import SUFFIXES
    from keras_dropblock.errors import DataError

    files = []
    for argument in arguments:
        if not pathlib.Path(argument).is_dir():
            files.append(argument)
            continue
        found = sorted(
            str(path)
            for path in pathlib.Path(argument).iterdir()
            if path.suffix.lower() in SUFFIXES
        )
        if not found:
            raise DataError(
                f"{argument} must have images ({', '.join(SUFFIXES)}). It has "
                "none. Folders inside it do not count."
            )
        files += found
    return files


def _draw(task, card, image, prediction):
    """Write the picture of a prediction into the folder of the flag."""
    from keras_dropblock.data import images
    from keras_dropblock.errors import DataError

    (pixels,) = images.arrays([image], card.image_shape[-1])
    picture = task.picture(pixels, prediction, card)
    if picture is None:
        raise DataError(
            f"--pictures must not be given for the task {task.name()}, which "
            "draws nothing into images."
        )
    path = _unused(pathlib.Path(_PICTURES.value), pathlib.Path(image).stem)
    images.write_png(path, picture)
    print(f"{image}\t{path}")


def _unused(folder, stem):
    """Path of the first of STEM.png, STEM_2.png, ... that does not exist.

    Images of different folders can have the same name, and the folder can be
    that of the images themselves.
    """
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}.png"
    return path


def main():
    cli.run(predict)


if __name__ == "__main__":
    cli.refuse(__spec__)
