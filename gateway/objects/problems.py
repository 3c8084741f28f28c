"""The body of every answer with an error status."""

from __future__ import annotations

from gateway.objects.lists import ApiObject


class Problem(ApiObject):
    """An error in OpenAI's form."""

    message: str
    type: str
    param: str | None
    """The field at fault."""
    code: str | None
    """The error in one word, for programs."""


class ErrorEnvelope(ApiObject):
    """OpenAI's error body."""

    error: Problem
