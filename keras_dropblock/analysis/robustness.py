"""Scores of classifiers with DropBlock left on, and on corrupted images."""

import tempfile

import numpy as np

from keras_dropblock import models
from keras_dropblock.analysis.corruptions import STRENGTHS, corrupt
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import dropblock_at_inference, dropblock_layers

KEEP_PROBS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


def with_dropblock(model, *, keep_prob=0.9, block_size=7):
    """A network with DropBlock layers and the weights of a given one.

    Args:
        model: a network with a card. If it has DropBlock layers, it is
            returned as it is.
        keep_prob, block_size: arguments of the builder, if the network is
            built again. `dropblock_at_inference` can replace both.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: if the model has neither DropBlock layers nor a card with
            a builder.
    """
    if dropblock_layers(model):
        return model
    card = getattr(model, "card", None)
    if card is None or not card.builder:
        raise ValueError(
            "`model` must have DropBlock layers, or a card from which the "
            "network can be built again with them. Received: "
            f"model={model.name!r}. Load it with `keras_dropblock.load`, or "
            "build it with keep_prob < 1 and load the weights."
        )
    arguments = {
        **card.arguments,
        "keep_prob": keep_prob,
        "block_size": block_size,
    }
    if "input_shape" in arguments:
        shape = models.image_shape(model)
        arguments["input_shape"] = models.in_data_format(shape)
    result = models.BUILDERS[card.builder](**arguments)
    # Weights files are the same with and without DropBlock. The lists of
    # `get_weights` are not: they contain keep_prob.
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(f"{folder}/model.weights.h5")
        result.load_weights(f"{folder}/model.weights.h5")
    result.card = card
    return result


def score_under_dropblock(
    model,
    images,
    labels,
    *,
    keep_probs=KEEP_PROBS,
    block_sizes=(1, 7),
    repeats=1,
    batch_size=256,
):
    """Scores with DropBlock left on at inference.

    Args:
        model: a network with DropBlock layers, or one with a card: see
            `with_dropblock`.
        images: array of images, as the model takes them.
        labels: int array (images,).
        keep_probs: values of keep_prob of the layers with the highest drop
            rate. The other layers keep their share of it: see
            `layers.dropblock_at_inference`.
        block_sizes: values of block_size. 1 is dropout of single units.
        repeats: number of draws of the masks. Scores are means over them.
        batch_size: images in one call of the model, int >= 1.

    Returns:
        A list of dicts: `block_size`, `keep_prob`, the scores (see
        `scores.scores`), and `accuracy_std` over the repeats (0 for one).

    Reference:
        Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, section 4.1.3
        and figure 5.
    """
    model = with_dropblock(model)
    rows = []
    for block_size in block_sizes:
        for keep_prob in keep_probs:
            with dropblock_at_inference(model, keep_prob, block_size):
                found = [
                    scores(
                        outputs(model, images, batch_size=batch_size), labels
                    )
                    for _ in range(repeats)
                ]
            rows.append(
                {
                    "block_size": block_size,
                    "keep_prob": keep_prob,
                    **{
                        name: float(np.mean([row[name] for row in found]))
                        for name in found[0]
                    },
                    "images": len(labels),
                    "accuracy_std": float(
                        np.std([row["accuracy"] for row in found])
                    ),
                }
            )
    return rows


def score_under_corruption(
    model,
    normalize,
    images,
    labels,
    *,
    kinds=tuple(STRENGTHS),
    strengths=(1, 2, 3, 4, 5),
    seed=0,
    batch_size=256,
):
    """Scores on corrupted images.

    Args:
        model: `keras.Model` with logits.
        normalize: function from uint8 images to the model's input.
        images: uint8 array (images, height, width, channels).
        labels: int array (images,).
        kinds, strengths, seed: see `corruptions.corrupt`.
        batch_size: images in one call of the model, int >= 1.

    Returns:
        A list of dicts, that of the original images first: `kind`, `"none"`
        for them; `strength`, 0 for them; and the scores: see `scores.scores`.
    """

    def row(kind, strength, pixels):
        logits = outputs(model, normalize(pixels), batch_size=batch_size)
        found = scores(logits, labels)
        return {"kind": kind, "strength": strength, **found}

    rows = [row("none", 0, images)]
    for kind in kinds:
        for strength in strengths:
            corrupted = corrupt(images, kind, strength, seed)
            rows.append(row(kind, strength, corrupted))
    return rows
