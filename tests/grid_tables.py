"""Tables of grids, for the tests of tables and plots."""

from keras_dropblock.search import tables
from keras_dropblock.search.space import points


def grid_table(grid, seeds, metrics, scores, failed):
    """The table of a grid.

    Args:
        grid: dict from key to values.
        seeds, metrics: see `tables.Table`.
        scores: dict from a point to a list with one dict for each run.
        failed: dict from a point to the number of its failed runs.
    """
    rows = [
        {
            **dict(zip(grid, point, strict=True)),
            **tables.summary(
                metrics, scores.get(point, []), failed.get(point, 0)
            ),
        }
        for point in points(grid)
    ]
    return tables.Table(tuple(grid), seeds, tuple(metrics), rows)
