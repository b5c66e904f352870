"""One trace from the request for a job to its last webhook, if traces are kept."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry.trace import SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()
_HEADER = "traceparent"


class Tracing:
    """Without a provider every method does nothing, at next to no cost."""

    def __init__(
        self,
        provider: TracerProvider | None = None,
        *,
        watch: Callable[[Sequence[Any], Sequence[Any]], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.provider = provider
        self._watch = watch
        self._close = close
        self._tracer = None if provider is None else provider.get_tracer("gateway")

    def current(self) -> str | None:
        """Return the current span as a W3C `traceparent`; it is stored on the job's row."""
        if self._tracer is None:
            return None
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get(_HEADER)

    def stage(
        self, name: str, *, of: str | None, job_id: str | None
    ) -> AbstractContextManager[object]:
        """Run a part of a job's life as a span of the trace `of` its request."""
        if self._tracer is None or of is None or job_id is None:
            return nullcontext()
        return self._tracer.start_as_current_span(
            name,
            context=_W3C.extract({_HEADER: of}),
            kind=SpanKind.INTERNAL,
            attributes={"gateway.job.id": job_id},
            record_exception=False,
            set_status_on_exception=False,
        )

    def watch(self, *, clients: Sequence[Any], engines: Callable[[], Sequence[Any]]) -> None:
        """Let httpx clients and database engines make spans inside a trace."""
        if self._watch is not None:
            self._watch(clients, engines())

    def close(self) -> None:
        """Send what has not been sent yet, and stop watching."""
        if self._close is not None:
            self._close()
