"""OpenTelemetry spans across AMQP, Kafka, PostgreSQL and targets; off without an endpoint.

The context travels as W3C `traceparent`: in the headers of AMQP messages and events, and in the row
of the delivery, since what waits in the database is taken up by another process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

HEADER = "traceparent"
CONSUMER, PRODUCER, CLIENT = (
    trace.SpanKind.CONSUMER,
    trace.SpanKind.PRODUCER,
    trace.SpanKind.CLIENT,
)
_PROPAGATOR = TraceContextTextMapPropagator()

Attribute = str | int | float | bool


class _State:
    """The tracer of this process; None while nothing is traced."""

    tracer: trace.Tracer | None = None
    provider: TracerProvider | None = None


def start_tracing(endpoint: str, *, worker: str) -> None:
    """Send spans to an OTLP collector (HTTP, protobuf) from now on."""
    # Imported here: it takes a while, and is rarely wanted.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": "rs-delivery",
                "service.version": __version__,
                "service.instance.id": worker,
            }
        )
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _State.provider = provider
    _State.tracer = provider.get_tracer("rs-delivery", __version__)


def stop_tracing() -> None:
    """Send what is left."""
    if _State.provider is not None:
        _State.provider.shutdown()
    _State.provider = _State.tracer = None


@contextlib.contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    attributes: Mapping[str, Attribute | None] | None = None,
) -> Iterator[None]:
    """Trace a block: as a child of `parent` (a traceparent), or of the span around it."""
    if _State.tracer is None:
        yield
        return
    context = _PROPAGATOR.extract({HEADER: parent}) if parent else None
    known = {key: value for key, value in (attributes or {}).items() if value is not None}
    with _State.tracer.start_as_current_span(name, context, kind, known):
        yield


def current() -> str | None:
    """Return the traceparent of the span around; None if there is none."""
    if _State.tracer is None:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def of_headers(headers: Mapping[str, object]) -> str | None:
    """Return the traceparent that a message carries; None if it has none that is a text."""
    found = headers.get(HEADER)
    if isinstance(found, bytes):
        found = found.decode("ascii", "replace")
    return found if isinstance(found, str) else None
