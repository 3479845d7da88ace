"""Contribution of each residual block to the scores of a network."""

from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.scores import scores
from keras_dropblock.layers import branches_removed, residual_blocks


def score_without_blocks(model, images, labels, *, batch_size=256):
    """Scores of a network after removing each of its residual blocks in turn.

    A block without its residual branch returns its shortcut. A highway block
    with closed transform gates returns its input. The plain layers of a
    highway network cannot be removed and have no row.

    The authors of Wide ResNets argue that few blocks of a thin and deep
    network learn useful representations, because nothing forces the gradient
    through the branches. Most blocks could then be removed at little cost.

    Args:
        model: a network with residual blocks of this package.
        images: array of images, as the model takes them.
        labels: int array (images,).
        batch_size: images in one call of the model, int >= 1.

    Returns:
        A list of dicts, the whole network first: `removed`, the name of the
        block or `""`; `has_projection`, whether the shortcut of the block has
        a conv; and the scores: see `scores.scores`.

    Raises:
        ValueError: if the model has no residual blocks of this package.

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 1, state the reason. Veit et al. 2016,
        https://arxiv.org/abs/1605.06431, section 4.1, removed blocks.
    """
    blocks = residual_blocks(model)
    if not blocks:
        raise ValueError(
            "`model` must have residual blocks of this package. Received: "
            f"model={model.name!r}."
        )
    whole = scores(outputs(model, images, batch_size=batch_size), labels)
    rows = [{"removed": "", "has_projection": False, **whole}]
    for block in blocks:
        with branches_removed([block]):
            logits = outputs(model, images, batch_size=batch_size)
        rows.append(
            {
                "removed": block.name,
                "has_projection": block.shortcut is not None,
                **scores(logits, labels),
            }
        )
    return rows
