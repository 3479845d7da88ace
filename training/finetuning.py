"""Train two recipes with several seeds, and print the paired difference.

    python training/finetuning.py --initial_weights=build/cifar100_resnet20.pth

It compares fine-tuning with training from random weights, on 1,000 images of
CIFAR-10: see docs/finetuning.md. After an interruption, run it again to
resume.
"""

import pathlib
import statistics
import sys

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import keras_dropblock as kdb  # noqa: E402

RECIPES = ROOT / "training" / "recipes"
SCRATCH = "cifarresnet_20_b_cifar10_1000_images"
FINETUNED = f"{SCRATCH}_finetuned"
INITIAL_WEIGHTS = flags.DEFINE_string(
    "initial_weights", None, "weights, instead of those in the recipe"
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the runs")
OUT = flags.DEFINE_string("out", "runs/finetuning", "folder of the runs")


def accuracy(name, seed, changes=()):
    """Test accuracy in percent of the run of a recipe with a seed."""
    recipe = kdb.Recipe.from_toml(RECIPES / f"{name}.toml")
    recipe = recipe.override([f"seed={seed}", *changes])
    workdir = pathlib.Path(OUT.value, f"{name}_seed{seed}")
    return 100 * kdb.fit(recipe, workdir)["accuracy"]


def line(name, values):
    each = ", ".join(f"{value:.2f}" for value in values)
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    mean = statistics.fmean(values)
    return f"{name}: {mean:.2f} ± {spread:.2f} (n = {len(values)}: {each})"


def main(_):
    changes = []
    if INITIAL_WEIGHTS.value:
        changes = [f"initial_weights={INITIAL_WEIGHTS.value}"]
    scratch, finetuned = [], []
    for seed in SEEDS.value:
        scratch.append(accuracy(SCRATCH, seed))
        finetuned.append(accuracy(FINETUNED, seed, changes))
    difference = [b - a for a, b in zip(scratch, finetuned, strict=True)]
    print(line("random weights, test accuracy in %", scratch))
    print(line("fine-tuned, test accuracy in %", finetuned))
    print(line("paired difference in points", difference))


if __name__ == "__main__":
    app.run(main)
