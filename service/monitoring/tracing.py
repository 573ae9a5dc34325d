"""Tracing: OpenTelemetry spans of predictions, an extra that is off by default (``momok[traces]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, NamedTuple

from momok import __version__
from momok.model.errors import UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

PARENT = "traceparent"


class Stage(NamedTuple):
    """A part of a request: its name, and when it began and ended by ``perf_counter``."""

    name: str
    began: float
    ended: float


class Tracer:
    """Exports one span for each request and one for each of its stages, in the background."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "momok", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("momok", __version__)

    @classmethod
    def from_environment(cls) -> Tracer:
        """To the collector that ``OTEL_EXPORTER_OTLP_ENDPOINT`` names. Raises ``UserError`` without the
        extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise UserError("--traces needs OpenTelemetry: pip install 'momok[traces]'") from None
        return cls(OTLPSpanExporter())

    def record(
        self,
        request: Stage,
        parent: str | None,
        attributes: Mapping[str, str | int],
        stages: Sequence[Stage],
    ) -> None:
        """A request that has ended; ``parent`` is its ``traceparent`` header (W3C Trace Context)."""
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({PARENT: parent} if parent else {})
        since = time_ns() - perf_counter_ns()
        span = self._tracer.start_span(
            request.name, context, SpanKind.SERVER, dict(attributes), start_time=_time(request.began, since)
        )
        inside = set_span_in_context(span)
        for stage in stages:
            child = self._tracer.start_span(stage.name, inside, start_time=_time(stage.began, since))
            child.end(_time(stage.ended, since))
        span.end(_time(request.ended, since))

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def _time(seconds: float, since: int) -> int:
    """Nanoseconds since 1970 of a time by ``perf_counter``."""
    return int(seconds * 1e9) + since
