"""Traces, by OpenTelemetry: its API is always there and costs next to nothing; its SDK only where a setting asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import trace

from crossdock.kit.errors import CrossdockError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACER = trace.get_tracer("crossdock", version("crossdock"))


class TracingUnavailableError(CrossdockError):
    """The exporter of traces is not installed: `pip install 'crossdock[tracing]'`."""

    code = "tracing_unavailable"


@asynccontextmanager
async def exporting_traces(endpoint: str | None) -> AsyncIterator[None]:
    """Until leaving, send this process's spans to this address of an OTLP collector (HTTP); nowhere without one."""
    if endpoint is None:
        yield
        return
    provider = exporter_to(endpoint)
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


def exporter_to(endpoint: str) -> "TracerProvider":
    """What sends spans to a collector, in batches, from a thread of its own; raises TracingUnavailableError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 # optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 # optional
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 # optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 # optional
    except ImportError:
        raise TracingUnavailableError from None
    provider = TracerProvider(resource=Resource.create({"service.name": "crossdock"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider
