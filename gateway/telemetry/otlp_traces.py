"""Spans by the OpenTelemetry SDK with its attributes for generative AI, sent by OTLP over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway.routing.paths import HOT_PATHS
from gateway.routing.routing import Endpoint, RouteTable
from gateway.settings import TraceSettings
from gateway.telemetry.finished import Finished, unix_of

log = logging.getLogger(__name__)

_SEND_EVERY_MS: Final = 1000
_MOST_WAITING: Final = 8192
_MOST_AT_ONCE: Final = 512
_LONGEST_NAME: Final = 256


class OtlpTraces:
    """`Traces` that are sent to a receiver; an unsampled request costs only the making of its identifiers."""

    begins_spans = True

    def __init__(
        self, settings: TraceSettings, headers: Mapping[str, str], gateway: str, table: Callable[[], RouteTable]
    ) -> None:
        self._table = table
        self._timeout_s = settings.timeout_s
        self._context = TraceContextTextMapPropagator()
        self._open: dict[str, Span] = {}
        self._provider = TracerProvider(
            # A caller that sends a `traceparent` decides for its request; the share is for all others.
            sampler=ParentBased(TraceIdRatioBased(settings.sample_share)),
            resource=Resource({"service.name": settings.service_name, "service.instance.id": gateway}),
            shutdown_on_exit=False,
        )
        self._sending = BatchSpanProcessor(
            _Reported(_exporter(settings, headers)),
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_SEND_EVERY_MS,
            max_export_batch_size=_MOST_AT_ONCE,
            export_timeout_millis=settings.timeout_s * 1000,
        )
        self._provider.add_span_processor(self._sending)
        self._tracer = self._provider.get_tracer("lorry")

    def begin(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Begin a span below the caller's, and return its `traceparent`."""
        names = ("traceparent", "tracestate")
        sent = {name: value.decode("latin-1") for name in names if (value := headers.get(name.encode()))}
        span = self._tracer.start_span("inference", context=self._context.extract(sent), kind=SpanKind.CLIENT)
        context = span.get_span_context()
        if not context.is_valid:  # the SDK is switched off by its own environment variable
            return b""
        trace_id, span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
        traceparent = f"00-{trace_id}-{span_id}-{context.trace_flags:02x}"
        if span.is_recording():
            self._open[traceparent] = span
        return traceparent.encode()

    def finished(self, facts: Finished) -> None:
        """End the request's span, if it has one."""
        span = self._open.pop(facts.traceparent, None)
        if span is None:
            return
        asked = (facts.asked_name or facts.served_name)[:_LONGEST_NAME]
        span.update_name(f"{HOT_PATHS[facts.path.encode()].operation} {asked}".rstrip())
        span.set_attributes(attributes_of(facts, self._table().endpoint_of(facts.replica)))
        if error := error_of(facts):
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(int(1e9 * unix_of(facts.ended)))

    def close(self) -> None:
        """Send the remaining spans."""
        self._sending.force_flush(int(self._timeout_s * 1000))
        self._provider.shutdown()


def attributes_of(facts: Finished, endpoint: Endpoint | None) -> dict[str, AttributeValue]:
    """Return the attributes of a span: names, numbers and outcomes, never text of prompt or answer."""
    attributes: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": HOT_PATHS[facts.path.encode()].operation,
        "gen_ai.provider.name": endpoint.engine if endpoint is not None else "lorry",
        "gen_ai.request.model": (facts.asked_name or facts.served_name)[:_LONGEST_NAME],
        "gen_ai.response.model": facts.served_name or None,
        "gen_ai.response.finish_reasons": (facts.finish_reason,) if facts.finish_reason else None,
        "gen_ai.usage.input_tokens": facts.prompt_tokens,
        "gen_ai.usage.output_tokens": facts.completion_tokens,
        "error.type": error_of(facts) or None,
        "http.response.status_code": facts.status,
        "url.path": facts.path,
        "lorry.request_id": facts.request_id,
        "lorry.pool": facts.pool or None,
        "lorry.replica": facts.replica or None,
        "lorry.streamed": facts.streamed,
        "lorry.retries": facts.retries,
        "lorry.queued_s": facts.queued_s,
        "lorry.cold_start_s": facts.cold_start_s or None,
        "lorry.overhead_s": facts.overhead_s,
        "lorry.first_byte_s": None if facts.first_byte_at is None else facts.first_byte_at - facts.began,
    }
    if endpoint is not None:
        address = urlsplit(endpoint.url)
        attributes |= {"server.address": address.hostname, "server.port": address.port}
    return {name: value for name, value in attributes.items() if value is not None}


def error_of(facts: Finished) -> str:
    """Return `error.type`: the reason of an incomplete answer, else the status of an error, else an empty string."""
    return facts.reason or (str(facts.status) if facts.status >= 400 else "")


class _Reported(SpanExporter):
    """Logs when the receiver did not accept spans."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            log.warning("spans were not accepted and are lost", extra={"spans": len(spans)})
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _exporter(settings: TraceSettings, headers: Mapping[str, str]) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False
    return OTLPSpanExporter(
        endpoint=settings.endpoint,
        headers=dict(headers),
        timeout=settings.timeout_s,
        compression=Compression.Gzip,
        session=session,
    )
