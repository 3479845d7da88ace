"""The Wide ResNet paper's notation for networks: `WRN-40-2-B(3,1,3)`."""

import re

from keras_dropblock.models.wide_resnet import WRN

_WRN = re.compile(r"WRN-(\d+)-(\d+)(?:-(B\([\d, ]+\)))?")


def from_notation(notation, **arguments):
    """Build the network that the paper calls by this name.

    Args:
        notation: `WRN-depth-width`, with `-B(M)` after it for another block
            than B(3,3).
        **arguments: passed to the builder, which rejects unknown ones.

    Returns:
        A functional `keras.Model` that gives logits.

    Raises:
        ValueError: if the notation cannot be read, or from the builder.

    Example:
        >>> model = from_notation("WRN-40-2-B(3,1,3)", num_classes=100)

    Reference:
        Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146,
        section 2 ("WRN-n-k" and "B(M)").
    """
    match = _WRN.fullmatch(notation)
    if match is None:
        raise ValueError(
            "`notation` must read WRN-depth-width or WRN-depth-width-B(M), "
            "for example WRN-28-10 or WRN-40-2-B(3,1,3). "
            f"Received: notation={notation!r}."
        )
    depth, width, block = match.groups()
    if block is not None:
        arguments["block"] = block
    return WRN(int(depth), int(width), **arguments)
