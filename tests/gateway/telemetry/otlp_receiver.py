"""A receiver of traces: an HTTP server that decodes what an OpenTelemetry collector would be sent."""

from __future__ import annotations

import gzip
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.loopback import LoopbackHandler, LoopbackServer


class OtlpReceiver:
    """Keeps the spans that were posted to `/v1/traces`, as plain dictionaries, and the headers they came with."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies = b""
        outer = self

        class Handler(LoopbackHandler):
            def do_POST(self) -> None:
                body = self.read_body()
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                outer.take(dict(self.headers), body)
                self.reply(200, ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

        self._server = LoopbackServer(Handler)
        self.url = f"{self._server.url}/v1/traces"

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Decode one post."""
        self.headers.append({name.lower(): value for name, value in headers.items()})
        self.bodies += body
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            of_resource = {entry.key: _plain(entry.value) for entry in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_span(span, of_resource) for span in scope.spans]

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


def _span(span: Any, resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        "status": span.status.code,
        "resource": resource,
        "attributes": {entry.key: _plain(entry.value) for entry in span.attributes},
    }


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [_plain(entry) for entry in found.values] if kind == "array_value" else found
