"""What is measured on the weights of a finished run."""

import numpy as np

TEST_IMAGES = 1000
SAMPLES = 20  # predictions with layers that drop, for each image
# DropBlock of `accuracy_left_on`; see `dropblock_at_inference`.
LEFT_ON = {"keep_prob": 0.7, "block_size": 7}
# Title, unit and digits of each number but the number of parameters.
TITLES = {
    "train_accuracy": ("training accuracy", "%", 2),
    "accuracy_left_on": (
        f"accuracy on {TEST_IMAGES:,} test images with DropBlock left on "
        f"(keep_prob {LEFT_ON['keep_prob']}, "
        f"block_size {LEFT_ON['block_size']})",
        "%",
        2,
    ),
    "map_area": ("area of the map above half its maximum", "%", 2),
    "map_entropy": ("entropy of the map", "%", 2),
    "map_peaks": ("peaks of the map", "", 3),
    "redundancy_units": ("R² of dropped single units", "%", 1),
    "redundancy_blocks": ("R² of units in dropped blocks", "%", 1),
    "block_loss": ("accuracy lost without one block", "%", 2),
    "gate": ("mean transform gate", "%", 1),
    "nll": (f"NLL on {TEST_IMAGES:,} test images", "nats", 4),
    "sampled_nll": (f"NLL of the mean of {SAMPLES} samples", "nats", 4),
    "auroc": ("errors found by entropy, AUROC", "%", 1),
    "sampled_auroc": ("errors found by mutual information, AUROC", "%", 1),
    "train_ap50": ("AP50 on the training images", "%", 2),
}


def measure(workdir):
    """Measure a finished run.

    For a classifier, this includes the accuracy on the training images without
    augmentation, and `_image_measures`. For a detector, it includes AP50 on
    its training images. Random masks are drawn with a fixed seed.

    Returns:
        A dict of the number of parameters and of numbers in `TITLES`.
    """
    import keras

    import keras_dropblock as kdb
    from keras_dropblock.analysis import complexity

    keras.utils.set_random_seed(0)
    model = kdb.load(workdir)
    numbers = {"parameters": complexity.parameters(model)}
    if model.card.task == "classification":
        scores = kdb.evaluate(workdir, "train")
        numbers["train_accuracy"] = 100 * scores["accuracy"]
        numbers |= _image_measures(model)
    elif model.card.task == "detection":
        numbers["train_ap50"] = 100 * kdb.evaluate(workdir, "train")["ap50"]
    return numbers


def _image_measures(model):
    """Measures on the first 1,000 test images.

    - `accuracy_left_on`: with DropBlock left on, as in Figure 5 of the
      DropBlock paper.
    - `map_...`: of the class activation maps of the predicted class.
    - `redundancy_...`: how well kept units predict dropped ones in group 2.
    - `block_loss`: points of accuracy that are lost if one residual branch is
      removed, the mean over all blocks without a projection.
    - `gate`: the mean transform gate of a highway network.
    - `nll`, `auroc`, and `sampled_...` with `SAMPLES` Monte Carlo predictions,
      if the network has layers that drop.
    """
    import keras_dropblock as kdb
    from keras_dropblock.analysis import (
        blocks,
        cam,
        redundancy,
        robustness,
        spread,
    )

    images, labels = kdb.data.load(model.card.dataset).arrays["test"]
    x, labels = model.card.normalize(images[:TEST_IMAGES]), labels[:TEST_IMAGES]
    (left_on,) = robustness.score_under_dropblock(
        model,
        x,
        labels,
        keep_probs=(LEFT_ON["keep_prob"],),
        block_sizes=(LEFT_ON["block_size"],),
        repeats=3,
    )
    predicted = model.predict(x, verbose=0).argmax(1)
    maps = cam.class_activation_maps(model, x, predicted)
    measures = spread.measure_spread(maps)
    means = {
        f"map_{name}": scale * float(np.nanmean(measures[name]))
        for name, scale in (("area", 100), ("entropy", 100), ("peaks", 1))
    }
    units, in_blocks = redundancy.measure_redundancy(model, x[:200], ["group2"])
    whole, *without = blocks.score_without_blocks(model, x, labels)
    losses = [
        whole["accuracy"] - row["accuracy"]
        for row in without
        if not row["has_projection"]
    ]
    return {
        **means,
        "accuracy_left_on": 100 * left_on["accuracy"],
        "redundancy_units": 100 * units["r2"],
        "redundancy_blocks": 100 * in_blocks["r2"],
        **({"block_loss": 100 * float(np.mean(losses))} if losses else {}),
        **_gate_measures(model, x),
        **_uncertainty_measures(model, x, labels),
    }


def _gate_measures(model, x):
    from keras_dropblock.analysis import gates
    from keras_dropblock.layers import HighwayBlock

    if not any(isinstance(layer, HighwayBlock) for layer in model.layers):
        return {}
    found = gates.measure_gates(model, x)
    return {"gate": 100 * float(np.mean([g.mean() for g in found.values()]))}


def _uncertainty_measures(model, x, labels):
    from keras_dropblock.analysis import uncertainty

    def scores(samples):
        predictions = uncertainty.monte_carlo(
            model, x, samples=samples, stochastic_depth=True
        )
        return uncertainty.score_uncertainty(predictions, labels)

    once = scores(0)
    found = {"nll": once["nll"], "auroc": 100 * once["error_auroc_entropy"]}
    if uncertainty.drops(model):
        sampled = scores(SAMPLES)
        found["sampled_nll"] = sampled["nll"]
        found["sampled_auroc"] = 100 * sampled["error_auroc_mutual_information"]
    return found
