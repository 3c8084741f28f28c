"""Spans of inference requests, begun on arrival so that the engine's spans can be their children."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.errors import StartFailed
from gateway.routing.routing import RouteTable
from gateway.settings import TraceSettings
from gateway.telemetry.finished import Finished

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Traces(Protocol):
    """Receives the begin and, as a `FinishedListener`, the end of inference requests. Raises nothing."""

    begins_spans: bool
    """True if `begin` is to be called for every request, not only for those that bring a `traceparent`."""

    def begin(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the `traceparent` for the engine, empty for none. Names in *headers* are in lower case."""
        ...

    def finished(self, facts: Finished) -> None:
        """Record a request that is over."""
        ...

    def close(self) -> None:
        """Send the remaining spans; blocks for `timeout_s` at most."""
        ...


class Untraced:
    """`Traces` without a receiver: only a caller's valid `traceparent` is passed to the engine."""

    begins_spans = False

    def begin(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the caller's `traceparent` if it is valid."""
        sent = headers.get(b"traceparent", b"")
        return sent if _TRACEPARENT.fullmatch(sent) else b""

    def finished(self, facts: Finished) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_traces(settings: TraceSettings, gateway: str, table: Callable[[], RouteTable]) -> Traces:
    """Return traces for *settings*; *gateway* names this process. `StartFailed` for malformed headers."""
    if settings.endpoint is None:
        return Untraced()
    headers = trace_headers(settings, os.environ)
    from gateway.telemetry.otlp_traces import OtlpTraces  # here, so that a gateway without traces does not load the SDK

    return OtlpTraces(settings, headers, gateway, table)


def trace_headers(settings: TraceSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for the receiver. `StartFailed`, without their values, if the variable is malformed."""
    pairs = [pair.partition("=") for pair in environ.get(settings.headers_env, "").split(",") if pair.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise StartFailed(f"{settings.headers_env} must be name=value,name=value: the headers for [traces] endpoint")
    return {name.strip(): value.strip() for name, _, value in pairs}
