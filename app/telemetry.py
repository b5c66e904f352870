"""OpenTelemetry's SDK, set up and imported only if the OTEL_* variables say so.

Only what is known to be harmless is exported: attributes on a list, no events, no messages.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, Status

from app.core.tracing import Tracing

_NAME = "runcomfy-gateway"
_HARMLESS = frozenset(
    {
        "gateway.job.id",
        "http.request.method",
        "http.method",
        "http.response.status_code",
        "http.status_code",
        "http.route",
        "url.scheme",
        "network.protocol.version",
        "db.system",
        "db.system.name",
        "error.type",
    }
)
_DATABASE = frozenset({"db.system", "db.system.name"})


class Discreet(SpanExporter):
    """Passes spans on without URLs, query strings, statements, messages or stack traces.

    Statements outside any trace, which idle workers run all day, are left out.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export(list(_stripped(spans)))

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def from_environment() -> Tracing:
    return tracing(BatchSpanProcessor(Discreet(OTLPSpanExporter())))


def tracing(processor: SpanProcessor) -> Tracing:
    """Trace to `processor`, whose exporter should be Discreet."""
    resource = Resource.create({"service.name": _NAME})
    named = OTELResourceDetector().detect().attributes.get("service.name", _NAME)
    provider = TracerProvider(resource=resource.merge(Resource({"service.name": named})))
    provider.add_span_processor(processor)
    databases = SQLAlchemyInstrumentor()

    def watch(clients: Sequence[Any], engines: Sequence[Any]) -> None:
        for client in clients:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=provider)
        # It does not yet claim to support our SQLAlchemy; a test shows that it makes spans.
        databases.instrument(engines=list(engines), tracer_provider=provider, skip_dep_check=True)

    def close() -> None:
        databases.uninstrument()
        provider.shutdown()

    return Tracing(provider, watch=watch, close=close)


def _bare(context: SpanContext | None) -> SpanContext | None:
    """Drop the trace state, which callers can fill with anything."""
    if context is None:
        return None
    return SpanContext(
        context.trace_id, context.span_id, context.is_remote, trace_flags=context.trace_flags
    )


def _stripped(spans: Iterable[ReadableSpan]) -> Iterable[ReadableSpan]:
    for span in spans:
        attributes = span.attributes or {}
        is_statement = not _DATABASE.isdisjoint(attributes)
        if is_statement and span.parent is None:
            continue
        yield ReadableSpan(
            name=span.name.partition(" ")[0] if is_statement else span.name,
            context=_bare(span.context),
            parent=_bare(span.parent),
            resource=span.resource,
            attributes={key: value for key, value in attributes.items() if key in _HARMLESS},
            kind=span.kind,
            instrumentation_scope=span.instrumentation_scope,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
        )
