"""Traces: what they tell of calls, what they do not, and that they arrive."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crossdock.gateway import _attempt
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.calls import Call
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.credentials import api_key_query
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.streaming import StreamingTransport
from crossdock.observability.tracing import exporter_to
from tests.gateway.destinations import Visit, destination
from tests.web_server import serving


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(_attempt, "TRACER", provider.get_tracer("test"))
    return exporter


@pytest.fixture
async def transport() -> AsyncIterator[StreamingTransport]:
    made = StreamingTransport(policy=AddressPolicy(allow_loopback=True))
    yield made
    await made.aclose()


async def test_each_attempt_is_a_span_without_secrets(
    spans: InMemorySpanExporter, transport: StreamingTransport
) -> None:
    statuses = ["503 No", "200 OK"]

    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            await visit.answer(status=statuses.pop(0))

    async with destination(behaviour) as there:
        client = GatewayClient(
            ClientSettings(base_url=f"{there.url}/path-of-theirs", retry=RetryPolicy(base_s=0)),
            transport=transport,
            credentials=api_key_query("key", "the-api-key"),
        )
        await client.request(Call(method="GET", path="/x", query="email=jane%40example.com", correlation_id="c1"))
    first, second = spans.get_finished_spans()
    assert first.attributes is not None
    assert second.attributes is not None
    assert (first.name, first.attributes["http.response.status_code"]) == ("GET", 503)
    assert first.attributes["error.type"] == "503"
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["crossdock.correlation_id"] == "c1"
    assert second.attributes["server.address"] == there.url.removeprefix("http://")
    told = first.to_json() + second.to_json()
    assert not any(secret in told for secret in ("the-api-key", "jane", "path-of-theirs"))


async def test_spans_arrive_at_the_collector() -> None:
    came: list[tuple[str, bytes]] = []

    async def receive(request: web.Request) -> web.Response:
        came.append((request.path, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", receive)
    async with serving(app) as url:
        provider = exporter_to(f"{url}/v1/traces")
        provider.get_tracer("test").start_span("a-span-of-ours").end()
        await asyncio.to_thread(provider.shutdown)  # sends what it still has; by itself it waits five seconds for more
    assert b"a-span-of-ours" in came[0][1]
    assert b"crossdock" in came[0][1]
