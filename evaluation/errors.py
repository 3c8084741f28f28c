"""Errors of evaluations. Arguments are strings only, since errors cross processes by pickle."""


class EvaluationError(Exception):
    """Base of every error of this package."""


class SuiteInvalid(EvaluationError):
    """A suite is wrong; the message names the place and what would be right."""


class NotComparable(EvaluationError):
    """Two evaluations cannot be compared row by row; the message has the reason."""
