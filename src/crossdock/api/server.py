"""The HTTP server of a process: our application on uvicorn, in the process's own event loop."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from crossdock.api.bounded_protocol import BoundedProtocol
from crossdock.api.health import Metrics, health_routes
from crossdock.api.openapi import KEYS_APART
from crossdock.api.start_page import start_page_route
from crossdock.bootstrap import Services
from crossdock.features.events.receive import PUBLISH_PATH, publish_route
from crossdock.features.integrations.proxy.receive import GATEWAY_PREFIX
from crossdock.http.idempotency import IdempotentWrites
from crossdock.http.idempotency_claims import Claims
from crossdock.observability.gathering import own_metrics

_GRACE_S = 5
# Room for the words around the payload of one event.
_ENVELOPE_BYTES = 16 * 1024


def hub_app(services: Services, *, metrics: Metrics = own_metrics) -> ASGIApp:
    """The whole API; `metrics` is what `/metrics` answers."""
    from crossdock.api.app import create_app, hub_api  # noqa: PLC0415 - a worker alone does without, and starts sooner

    settings = services.settings
    return create_app(
        services.provided(),
        api=hub_api(),
        hot_routes=[
            publish_route(
                gatekeeper=services.identity.authenticator,
                publishing=services.publishing,
                writer=services.writer,
                turns=services.turns,
            ),
            *services.inbound.routes(),
            *services.provider_calls.routes(services.identity.authenticator),
            *health_routes(services.database, metrics),
            start_page_route(),
        ],
        body_limits={
            PUBLISH_PATH: max(settings.max_batch_bytes, settings.max_payload_bytes + _ENVELOPE_BYTES),
            "/webhooks/": settings.max_payload_bytes,
            GATEWAY_PREFIX: settings.max_call_body_bytes,
        },
        upload_limits={"/webhooks/": max(settings.max_upload_bytes, settings.max_payload_bytes)},
        trusted_proxies=settings.trusted_proxies,
        around=partial(
            IdempotentWrites,
            gatekeeper=services.identity.authenticator,
            operator_key=services.operator_key,
            claims=Claims(database=services.database, clock=services.clock),
            seals=services.sealed_answers,
            apart=KEYS_APART,
        ),
    )


def watch_app(services: Services, *, metrics: Metrics = own_metrics) -> ASGIApp:
    """Health and metrics alone, for a process without the API."""
    return Starlette(routes=health_routes(services.database, metrics))


@asynccontextmanager
async def serving(app: ASGIApp, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Serve `app` until leaving; then requests under way may end, for a few seconds."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        http=BoundedProtocol,
        ws="none",
    )
    config.load()
    # The process handles its signals itself: the worker has to stop too, and after the API.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=list(sockets))
    try:
        yield
    finally:
        await server.shutdown(sockets=list(sockets))
