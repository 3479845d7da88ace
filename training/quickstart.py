"""The main job on real digits: train, draw, export, serve. `make quickstart`.

Trains a small Wide ResNet with scheduled DropBlock on the 1,797 handwritten
digits that scikit-learn ships, draws its curves and DropBlock's masks on its
own feature maps, exports a SavedModel, and asks that SavedModel for some test
digits in a process that cannot import keras_dropblock.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

# Quiet by choice of the reader, not for lack of interest: TensorFlow logs
# its CPU flags several times.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = pathlib.Path(__file__).parents[1]
WORKDIR = ROOT / "runs" / "quickstart"
SHOWN = 12  # test digits that the SavedModel is asked for

SERVE = """
    import sys
    sys.modules["keras_dropblock"] = None  # importing it would be an error
    import numpy as np
    import tensorflow as tf

    served = tf.saved_model.load(sys.argv[1])
    digits = np.load(sys.argv[2])
    by_array = served.serve_uint8(digits).numpy()
    files = [tf.io.encode_png(digit) for digit in digits]
    by_file = served.serve_bytes(tf.stack(files))["probabilities"].numpy()
    assert abs(by_array - by_file).max() < 1e-5
    for p in by_array:
        print(p.argmax(), f"{p.max():.4f}")
"""


def main():
    from keras_dropblock import data, exporting, fitting
    from keras_dropblock.analysis import plots
    from keras_dropblock.recipes import Recipe

    say("1/4  Training a Wide ResNet with scheduled DropBlock on real digits")
    recipe = Recipe.from_toml(ROOT / "training" / "recipes" / "digits.toml")
    result = fitting.fit(recipe, WORKDIR)
    model, recipe, _ = fitting.load_run(WORKDIR)
    normalise = data.Normalise(recipe.mean, recipe.std)
    splits = data.load("digits")

    say("2/4  Drawing DropBlock's masks on the network's own feature maps")
    masks = WORKDIR / "dropblock_masks.png"
    plots.dropblock_masks(
        model,
        splits.x_test[:4],
        masks,
        group="group1",
        keep_prob=0.8,
        normalise=normalise,
    )

    say("3/4  Exporting a SavedModel")
    saved_model = exporting.export(
        model,
        ROOT / "saved_models" / "quickstart",
        normalise,
        labels=splits.class_names,
        recipe=recipe,
    )

    say("4/4  Asking the SavedModel, in a process without keras_dropblock")
    answers = ask(saved_model, splits.x_test[:SHOWN])
    print("digit  answer  probability")
    for label, (answer, probability) in zip(
        splits.y_test[:SHOWN], answers, strict=True
    ):
        print(f"{label:5}  {answer:>6}  {probability:>11}")

    say("Made")
    for what, path in (
        ("curves", WORKDIR / "curves.png"),
        ("masks", masks),
        ("epochs", WORKDIR / "history.csv"),
        ("recipe", WORKDIR / "recipe.toml"),
        ("weights", WORKDIR / "model.weights.h5"),
        ("SavedModel", saved_model),
    ):
        print(f"  {what:10}  {path.relative_to(ROOT)}")
    print(
        f"  accuracy    {result['accuracy']:.2%} of {result['images']} digits"
    )
    bin_ = pathlib.Path(sys.executable).parent
    if bin_.is_relative_to(ROOT):
        bin_ = bin_.relative_to(ROOT)
    train = f"{bin_}/keras-dropblock-train --recipe=training/recipes"
    say("Try next")
    for command in (
        f"{bin_}/tensorboard --logdir=runs",
        f"{bin_}/keras-dropblock-evaluate --workdir=runs/quickstart",
        f"{train}/digits.toml --set keep_prob=1.0 --workdir=runs/no_dropblock",
        f"{train}/cifar10_cpu.toml --workdir=runs/cifar10_cpu",
    ):
        print(f"  {command}")


def ask(saved_model, digits):
    """Answers and their probabilities, by a process of TensorFlow alone."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "digits.npy"
        np.save(path, digits)
        output = subprocess.run(
            [
                *(sys.executable, "-c", textwrap.dedent(SERVE)),
                *(str(saved_model), str(path)),
            ],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    return [line.split() for line in output.splitlines()]


def say(text):
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()
