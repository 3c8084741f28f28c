"""A request as it is written to an engine."""

from __future__ import annotations

from collections.abc import Mapping

from engines.catalog import adapter_fields
from gateway.routing.routing import Endpoint


def address_of(endpoint: Endpoint, served_name: str) -> Mapping[str, str]:
    """The fields by which the endpoint's engine knows whose answer is wanted."""
    return {"model": served_name} if served_name == endpoint.base else adapter_fields(endpoint.engine, served_name)


def written(path: str, host: bytes, lines: bytes, body: bytes) -> bytes:
    """The whole request to the engine at *host*, with header *lines* of ours."""
    return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        host,
        lines,
        len(body),
        body,
    )


def read(path: str, host: bytes) -> bytes:
    """A whole GET of *path* to the engine at *host*."""
    return b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path.encode(), host)
