"""keras-dropblock-analyze MODEL...: study trained networks.

MODEL is the work directory of a run, or a source for keras_dropblock.load, such
as the name of a published model. Runs that differ only in the seed are
averaged in the plots. The studies of classifiers (--what):

maps         Grad-CAM of the predicted classes, and how far the maps spread
redundancy   how well the neighbors of dropped units predict them
blocks       scores after removing each residual block
robustness   scores with DropBlock left on, on corrupted images, and with a
             square of each image covered
uncertainty  Monte Carlo predictions, calibration, errors, unknown images

Detectors and segmentation networks have only maps: one for each class, compared
with the masks or boxes of the objects.

    keras-dropblock-analyze wrn_16_1_cifar10 wrn_16_1_cifar10_dropblock \\
      --out=analysis --what=maps,robustness
    keras-dropblock-analyze runs/camvid_0 runs/camvid_1 --out=analysis \\
      --what=maps --objects=car,pedestrian
"""

import datetime
import pathlib

import keras
from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli.out import OUT

TAKES_ARGUMENTS = True
_WHAT = flags.DEFINE_list(
    "what",
    None,
    "Studies to make, separated by commas. Not given: all that suit the task.",
)
_IMAGES = flags.DEFINE_integer(
    "images",
    1000,
    "Number of test images to use, evenly spaced in the test split.",
    lower_bound=2,
)
_OBJECTS = flags.DEFINE_list(
    "objects",
    None,
    "Classes of objects for the maps of detectors and segmentation networks. "
    "Not given: all classes.",
)
_LAYER = flags.DEFINE_string(
    "layer",
    None,
    "Layer of a detector or segmentation network whose maps are studied. Not "
    "given: group4, the last group of the backbone.",
)
_SAMPLES = flags.DEFINE_integer(
    "samples", 20, "Predictions of each image in Monte Carlo.", lower_bound=1
)
_UNKNOWN = flags.DEFINE_list(
    "unknown",
    [],
    "Data sets with images of unknown classes for the study of uncertainty, "
    "such as cifar100. Noise is always one of them.",
)
_BLOCK_SIZES = flags.DEFINE_list(
    "block_sizes",
    ["1", "7"],
    "Values of block_size for the robustness study. The largest one is also "
    "the block_size of the redundancy study.",
)
_KEEP_PROBS = flags.DEFINE_list(
    "keep_probs",
    ["1", "0.95", "0.9", "0.85", "0.8", "0.75", "0.7"],
    "Values of keep_prob for the robustness study.",
)


def analyze(sources=()):
    from keras_dropblock.analysis import studies, subjects
    from keras_dropblock.errors import WeightsError
    from keras_dropblock.training import trained_networks

    what = [*studies.STUDIES] if _WHAT.value is None else _WHAT.value
    unknown = [x for x in what if x not in studies.STUDIES]
    if not sources or unknown or not what:
        raise app.UsageError(
            f"--what must be some of {','.join(studies.STUDIES)}. Received: "
            f"{','.join(unknown) or 'nothing'}."
            if sources
            else "At least one run or model must be given."
        )
    folder = _folder(sources)
    settings = subjects.Settings(
        keep_probs=_numbers(_KEEP_PROBS, float),
        block_sizes=_numbers(_BLOCK_SIZES, int),
        samples=_SAMPLES.value,
        about=_about(),
    )
    keras.utils.set_random_seed(0)
    labels = {}
    options = {
        "images": _IMAGES.value,
        "unknown": _UNKNOWN.value if "uncertainty" in what else None,
        "objects": _OBJECTS.value,
        "layer": _LAYER.value,
    }
    networks = [trained_networks.read(x, labels, **options) for x in sources]
    what = _suiting(what, networks)
    folder.mkdir(parents=True, exist_ok=True)
    for name in what:
        try:
            studies.STUDIES[name](networks, folder, settings)
        except ValueError as error:  # the study does not suit the model
            raise WeightsError(f"--what={name}: {error}") from error
        print(f"{name}: done")
    print(f"The results are in {folder}.")


def _suiting(what, networks):
    """The studies in `what` that suit the networks, which have one kind."""
    from keras_dropblock.analysis.objects import SceneSubject
    from keras_dropblock.errors import WeightsError

    scenes = [isinstance(subject, SceneSubject) for subject in networks]
    if not any(scenes):
        return what
    if not all(scenes):
        raise WeightsError(
            "Either all networks or none must be classifiers. Received: "
            f"{', '.join(subject.name for subject in networks)}."
        )
    if _WHAT.value not in (None, ["maps"]):
        raise WeightsError(
            "--what must be maps for detectors and segmentation networks: the "
            f"other studies are of classifiers. Received: {','.join(what)}."
        )
    return ["maps"]


def _folder(sources):
    if OUT.value is not None:
        return pathlib.Path(OUT.value)
    from keras_dropblock.training.trained_networks import is_run

    if len(sources) == 1 and is_run(sources[0]):
        return pathlib.Path(sources[0], "analysis")
    raise app.UsageError("--out must be given, unless there is a single run.")


def _numbers(flag, kind):
    try:
        return tuple(kind(x) for x in flag.value)
    except ValueError as error:
        raise app.UsageError(f"--{flag.name}: {error}.") from error


def _about():
    from keras_dropblock.runs import versions

    backend = keras.backend.backend()
    packages = [
        "keras-dropblock",
        "keras",
        "numpy",
        {"tensorflow": "tensorflow-cpu"}.get(backend, backend),
        backend,
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": versions.commit(),
        "backend": backend,
        "versions": versions.of(packages),
    }


def main():
    cli.run(analyze)


if __name__ == "__main__":
    cli.refuse(__spec__)
