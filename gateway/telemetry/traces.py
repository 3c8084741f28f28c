"""Spans of inference requests, begun when a request comes, so that the engine's can be their children."""

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
    """Hears of the beginning and, as a `FinishedListener`, of the end of inference requests. Raises nothing."""

    def begin(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The `traceparent` for the engine; empty when none is to be sent. Names in *headers* are in lower case."""
        ...

    def finished(self, facts: Finished) -> None:
        """The request that *facts* describe is over."""
        ...

    def close(self) -> None:
        """What is left is sent; blocks for `timeout_s` at most."""
        ...


class Untraced:
    """`Traces` where nothing is traced; a caller's own `traceparent` is passed on, if it is one."""

    def begin(self, headers: Mapping[bytes, bytes]) -> bytes:
        """What the caller sent."""
        sent = headers.get(b"traceparent", b"")
        return sent if _TRACEPARENT.fullmatch(sent) else b""

    def finished(self, facts: Finished) -> None:
        """Nothing is told."""

    def close(self) -> None:
        """Nothing is left."""


def open_traces(settings: TraceSettings, gateway: str, table: Callable[[], RouteTable]) -> Traces:
    """Traces as *settings* say; *gateway* names this process. `StartFailed` for headers that are none."""
    if settings.endpoint is None:
        return Untraced()
    headers = trace_headers(settings, os.environ)
    from gateway.telemetry.otlp_traces import OtlpTraces  # here: a gateway that traces nothing does without the SDK

    return OtlpTraces(settings, headers, gateway, table)


def trace_headers(settings: TraceSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Headers for the receiver; `StartFailed`, without their values, when the variable does not hold such."""
    pairs = [pair.partition("=") for pair in environ.get(settings.headers_env, "").split(",") if pair.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise StartFailed(f"{settings.headers_env} must be name=value,name=value: the headers for [traces] endpoint")
    return {name.strip(): value.strip() for name, _, value in pairs}
