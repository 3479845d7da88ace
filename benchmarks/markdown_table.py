"""Tables in Markdown."""

import re


def markdown(table):
    """A Markdown table with aligned columns, numbers to the right.

    Args:
        table: list of rows. Each is a list of strings; the first has the
            headings.
    """
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    numeric = [
        all(re.match(r"\d|-$", cell) for cell in column)
        for column in zip(*table[1:], strict=True)
    ]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        )
        + " |"
        for row in table
    ]
    rule = " | ".join(
        "-" * (width - 1) + (":" if number else "-")
        for width, number in zip(widths, numeric, strict=True)
    )
    return "\n".join([lines[0], f"| {rule} |", *lines[1:]]) + "\n"
