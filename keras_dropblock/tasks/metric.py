"""A number that measures how good a model is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that measures how good a model is.

    Args:
        name: key of the metric in scores, and in the logs of an epoch if they
            contain it.
        title: name in tables and plots, without the unit.
        unit: such as `"%"`, or `""` for none.
        scale: factor that converts the number to that unit.
        digits: digits after the decimal point, in that unit.
        higher_is_better: whether a higher value is better.
        complement: for a percentage, name of 100 % minus the value, such as
            `"error"`. Curves show this instead of the value. `""`: curves
            show the value.
        tolerance: largest difference that rounding may cause when the same
            weights are evaluated on another machine.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 4
    higher_is_better: bool = False
    complement: str = ""
    tolerance: float = 1e-2

    @property
    def heading(self):
        """Title and unit, for the headings of tables."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def curve_title(self):
        """Title of the axis of the metric's curve."""
        return f"{self.complement}, %" if self.complement else self.heading

    def curve_value(self, value):
        """Convert a value to what the metric's curve shows."""
        if self.complement:
            return 100 - self.scale * value
        return self.scale * value

    def text(self, value):
        """Format a value in the metric's unit, without the unit's name."""
        return f"{self.scale * value:.{self.digits}f}"

    def text_with_unit(self, value):
        """Format a value with its unit."""
        return f"{self.text(value)} {self.unit}".rstrip()
