"""The body of every answer with an error status."""

from __future__ import annotations

from typing import Final

from gateway.objects.lists import ApiObject

WARNING_HEADER: Final = "x-lorry-warning"
"""Header of an answer with a sentence for people: the request was answered, but probably is not as it was meant."""


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
