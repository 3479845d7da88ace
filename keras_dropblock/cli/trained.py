"""The flags shared by the commands that use a trained model."""

from absl import flags

from keras_dropblock.cli.workdir import WORKDIR

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A source for keras_dropblock.load, instead of --workdir: the name of a "
    "published model, or the folder or URL of its card.",
)


def load(dtype=None):
    """Load the model that the flags select.

    Args:
        dtype: Keras dtype policy for the model of a work directory. None:
            that of its training. Published models always use float32.

    Returns:
        A tuple (model, recipe).
    """
    from keras_dropblock.errors import WorkdirError
    from keras_dropblock.training import evaluation

    if (WORKDIR.value is None) == (_MODEL.value is None):
        raise WorkdirError(
            "Exactly one of --workdir and --model must be given."
        )
    if _MODEL.value is None:
        return evaluation.load_run(WORKDIR.value, dtype)
    return evaluation.load_source(_MODEL.value)
