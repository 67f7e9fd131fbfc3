"""Traces, by OpenTelemetry: its API is always there and costs next to nothing; its SDK only where a setting asks."""

from importlib.metadata import version

from opentelemetry import trace

from crossdock.kit.errors import CrossdockError

TRACER = trace.get_tracer("crossdock", version("crossdock"))


class TracingUnavailableError(CrossdockError):
    """The exporter of traces is not installed: `pip install 'crossdock[tracing]'`."""

    code = "tracing_unavailable"


def export_traces(*, endpoint: str, service: str) -> None:
    """Send this process's spans to an OTLP collector's address (HTTP), in batches from a thread of its own."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 # optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 # optional
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 # optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 # optional
    except ImportError:
        raise TracingUnavailableError from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
