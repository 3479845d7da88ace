"""keras-dropblock-analyze MODEL...: study trained classifiers.

MODEL is the work directory of a run, or a source for keras_dropblock.load, such
as the name of a published model. Runs that differ only in the seed are
averaged in the plots. The studies (--what):

maps         Grad-CAM of the predicted classes, and how far the maps spread
redundancy   how well the neighbors of dropped units predict them
blocks       scores after removing each residual block
robustness   scores with DropBlock left on, on corrupted images, and with a
             square of each image covered
uncertainty  Monte Carlo predictions, calibration, errors, unknown images

    keras-dropblock-analyze wrn_16_1_cifar10 wrn_16_1_cifar10_dropblock \\
      --out=analysis --what=maps,robustness
"""

import datetime
import pathlib

import keras
import numpy as np
from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli.out import OUT

TAKES_ARGUMENTS = True
_WHAT = flags.DEFINE_list(
    "what",
    ["maps", "redundancy", "blocks", "robustness", "uncertainty"],
    "Studies to make, separated by commas.",
)
_IMAGES = flags.DEFINE_integer(
    "images",
    1000,
    "Number of test images to use, evenly spaced in the test split.",
    lower_bound=2,
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
    "block_sizes", ["1", "7"], "Values of block_size for the robustness study."
)
_KEEP_PROBS = flags.DEFINE_list(
    "keep_probs",
    ["1", "0.95", "0.9", "0.85", "0.8", "0.75", "0.7"],
    "Values of keep_prob for the robustness study.",
)


def analyze(sources=()):
    from keras_dropblock.analysis import studies, subjects
    from keras_dropblock.errors import WeightsError

    unknown = [x for x in _WHAT.value if x not in studies.STUDIES]
    if not sources or unknown or not _WHAT.value:
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
    studied = [_subject(source, labels) for source in sources]
    folder.mkdir(parents=True, exist_ok=True)
    for name in _WHAT.value:
        try:
            studies.STUDIES[name](studied, folder, settings)
        except ValueError as error:  # the study does not suit the model
            raise WeightsError(f"--what={name}: {error}") from error
        print(f"{name}: done")
    print(f"The results are in {folder}.")


def _folder(sources):
    if OUT.value is not None:
        return pathlib.Path(OUT.value)
    if len(sources) == 1 and _is_run(sources[0]):
        return pathlib.Path(sources[0], "analysis")
    raise app.UsageError("--out must be given, unless there is a single run.")


def _is_run(source):
    return pathlib.Path(source, "run.json").is_file()


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


def _subject(source, labels):
    """The `Subject` of a source.

    Args:
        source: see the module.
        labels: dict from recipes without their seed to labels. It is changed.
    """
    from keras_dropblock import hub
    from keras_dropblock.analysis.subjects import Subject
    from keras_dropblock.errors import WeightsError
    from keras_dropblock.training import evaluation, plan

    name, label = pathlib.Path(source).name, source
    if _is_run(source):
        model, recipe = evaluation.load_run(source, "float32")
        key = str(sorted(recipe.override(["seed=0"]).flat().items()))
        label = labels.setdefault(key, name)
    else:
        model = hub.load(source)
        if getattr(model, "card", None) is None:
            raise WeightsError(
                f"{source} has no card, so its data and preprocessing are "
                "unknown. Use a published model or a work directory."
            )
        recipe = plan.recipe_of(model.card)
    if model.card.task != "classification":
        raise WeightsError(
            f"{source} must be a classifier. Its task is {model.card.task}."
        )
    examples = evaluation.Examples(recipe)
    images, classes = examples.of("test", _IMAGES.value)
    validation = None
    if "validation" in examples.plan.dataset.splits:
        validation = examples.of("validation", _IMAGES.value)
    return Subject(
        name=name,
        label=label,
        model=model,
        normalize=model.card.normalize,
        images=images,
        labels=classes,
        class_names=model.card.class_names,
        validation=validation,
        unknown=_unknown(model.card, images.shape),
    )


def _unknown(card, shape):
    """Images of unknown classes: a dict from the name to uint8 images."""
    import dataclasses

    from keras_dropblock import data
    from keras_dropblock.training import evaluation, plan

    if "uncertainty" not in _WHAT.value:
        return {}
    rng = np.random.default_rng(0)
    images = {"noise": rng.integers(0, 256, shape, "uint8")}
    for name in _UNKNOWN.value:
        recipe = plan.recipe_of(dataclasses.replace(card, dataset=name))
        other = evaluation.Examples(
            dataclasses.replace(
                recipe,
                test_split="test",
                image_size=shape[1] if data.sources.can_resize(name) else None,
            )
        )
        images[name] = other.of("test", shape[0])[0]
    return images


def main():
    cli.run(analyze)


if __name__ == "__main__":
    cli.refuse(__spec__)
