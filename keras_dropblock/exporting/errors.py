"""What makes an export impossible."""


class ExportError(ValueError):
    """A model that cannot be exported; says what to do."""


class DifferenceError(RuntimeError):
    """An export that does not give what the model gives; it was not kept."""
