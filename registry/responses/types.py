"""A stored answer of `POST /v1/responses`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response with the input of its own turn; those of earlier turns are with `previous`."""

    id: str
    previous: str | None
    """Id of the response that it goes on from."""
    body: Mapping[str, Any]
    """The response as its client has it."""
    input_items: tuple[Mapping[str, Any], ...]
    """The items of its request, each with its id."""
    created_at: float
    """When it was asked for; unix seconds."""
