"""What is raised when data cannot be had."""


class DataError(ValueError):
    """Data that are not there or not what was asked for; says what to do."""
