"""Targets of request lines as a plain path, in whatever form a client sends them. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.errors import MalformedRequest
from gateway.routing.paths import HOT_PATHS, PathKind

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]*))?")
_SLASHES: Final = re.compile(rb"/{2,}")


class PlainTarget(NamedTuple):
    """A target as the gateway reads it."""

    url: bytes
    """Path and query, or `*`."""
    host: bytes | None
    """Host and port of an absolute target, which stand for the header `host` (RFC 9112, 3.2.2)."""


def plain_target(url: bytes, method: bytes) -> PlainTarget:
    """Return the target without scheme, host, fragment, doubled slashes and slashes at its end; `MalformedRequest`."""
    if url == b"*" and method == b"OPTIONS":
        return PlainTarget(url, None)
    host = None
    if not url.startswith(b"/"):
        found = _ABSOLUTE.fullmatch(url)
        if found is None:
            raise MalformedRequest("the target of a request is a path, or http://HOST/PATH")
        host, url = _checked(found[1]), found[2]
    path, mark, query = url.partition(b"#")[0].partition(b"?")
    # A redirect to the path without its last slash would lose what a proxy put before it, and the body in some clients.
    return PlainTarget((_SLASHES.sub(b"/", path).rstrip(b"/") or b"/") + mark + query, host)


def kind_of(url: bytes) -> PathKind | None:
    """Return the kind of a hot path that is written in another way: encoded, or with a slash at its end."""
    path = url.partition(b"?")[0]
    return HOT_PATHS.get(unquote_to_bytes(path).rstrip(b"/"))


def _checked(authority: bytes) -> bytes:
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found[2] or 0) > 65535:
        shown = authority[:64].decode("latin-1")
        raise MalformedRequest(f"{shown!r} in the target of the request is not a host with a port up to 65535")
    return authority
