"""Errors of the estimates; every one is an `EstimateError`."""

from __future__ import annotations


class EstimateError(Exception):
    """An estimate cannot be made; the message names the field."""

    def __init__(self, message: str, param: str) -> None:
        """*param* is the field at fault, as a caller wrote it."""
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message
