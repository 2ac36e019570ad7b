"""The error of a recording that cannot be imported."""


class ImportProblem(Exception):
    """A recording cannot be imported. The message has the rule and the remedy, and no values."""
