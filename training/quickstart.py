"""Train, plot, export and serve a small network: `make quickstart`.

The script trains a small Wide ResNet with scheduled DropBlock on the 1,797
handwritten digits in scikit-learn. It plots the curves, and DropBlock's masks
on the feature maps of the network. It exports a SavedModel, and classifies some
test digits with it in a process that cannot import keras_dropblock.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

# TensorFlow logs its CPU flags several times. Set this variable to 0 to see
# them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = pathlib.Path(__file__).parents[1]
WORKDIR = ROOT / "runs" / "quickstart"
MASKS = "dropblock_masks.png"
SHOWN = 12  # test digits to classify with the SavedModel

SERVE = """
    import sys
    sys.modules["keras_dropblock"] = None  # importing it raises ImportError
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
    import keras

    import keras_dropblock as kdb
    from keras_dropblock.analysis import feature_maps

    say("1/4  Training a Wide ResNet with scheduled DropBlock on real digits")
    recipe = kdb.Recipe.from_toml(ROOT / "training" / "recipes" / "digits.toml")
    result = kdb.fit(recipe, WORKDIR)
    model = kdb.load(WORKDIR)
    images, labels = kdb.data.load("digits").arrays["test"]

    say("2/4  Plotting DropBlock's masks on the network's feature maps")
    keras.utils.save_img(WORKDIR / "digit.png", images[0], scale=False)
    feature_maps.dropblock_masks(
        model,
        images[:4],
        WORKDIR / MASKS,
        group="group1",
        keep_prob=0.8,
        normalize=model.card.normalize,
    )

    say("3/4  Exporting a SavedModel")
    saved_model = kdb.export(model, ROOT / "saved_models" / "quickstart")

    say("4/4  Classifying with the SavedModel, without keras_dropblock")
    answers = ask(saved_model, images[:SHOWN])
    print("digit  answer  probability")
    for label, (answer, probability) in zip(
        labels[:SHOWN], answers, strict=True
    ):
        print(f"{label:5}  {answer:>6}  {probability:>11}")

    show(result, saved_model)
    suggest()


def show(result, saved_model):
    """Print the accuracy, and where the files are."""
    say("Results")
    for what, path in (
        ("curves", WORKDIR / "curves.png"),
        ("masks", WORKDIR / MASKS),
        ("a digit", WORKDIR / "digit.png"),
        ("epochs", WORKDIR / "history.csv"),
        ("recipe", WORKDIR / "recipe.toml"),
        ("weights", WORKDIR / "model.weights.h5"),
        ("SavedModel", saved_model),
    ):
        print(f"  {what:10}  {path.relative_to(ROOT)}")
    print(
        f"  accuracy    {result['accuracy']:.2%} of {result['images']} digits"
    )


def suggest():
    """Print commands to try next."""
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
    """Classify digits with a SavedModel, in a process that has TensorFlow.

    Returns:
        A list of [digit, probability] strings.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "digits.npy"
        np.save(path, digits)
        output = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(SERVE),
                str(saved_model),
                str(path),
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
