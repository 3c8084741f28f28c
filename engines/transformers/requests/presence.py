"""Whether the client of a request is still there."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

CLIENT_LEFT: Final = 499
"""Status of an answer that nobody reads, as nginx logs it."""


async def client_leaves(http: Request) -> None:
    """Return when the client has closed its connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
