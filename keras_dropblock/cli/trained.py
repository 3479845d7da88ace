"""The flags of every command that works on a trained model."""

from absl import flags

from keras_dropblock.cli.workdir import WORKDIR

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A published model's name, or the folder or URL of its card; in place of "
    "--workdir.",
)


def load(dtype=None):
    """(model, resolved recipe, class names) that the flags stand for.

    Args:
        dtype: that the network of a work directory computes in; None: as in
            its training. Published ones compute in float32.
    """
    from keras_dropblock import fitting, models
    from keras_dropblock.workdir import WorkdirError

    if (WORKDIR.value is None) == (_MODEL.value is None):
        raise WorkdirError("Give --workdir or --model, one of the two.")
    if _MODEL.value is None:
        model, recipe, info = fitting.load_run(WORKDIR.value, dtype)
        return model, recipe, tuple(info["class_names"])
    model = models.load(_MODEL.value)
    card = getattr(model, "card", None)
    if card is None:
        raise WorkdirError(
            f"{_MODEL.value} has no card: its data and preprocessing are not "
            "known. Use a published model or a work directory."
        )
    return model, card.recipe, card.class_names
