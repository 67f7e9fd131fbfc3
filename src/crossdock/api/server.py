"""The HTTP server of a process: our application on uvicorn, in the process's own event loop."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from crossdock.api.bounded_protocol import BoundedProtocol
from crossdock.api.health import health_routes
from crossdock.api.start_page import start_page_route
from crossdock.bootstrap import Services
from crossdock.features.events.receive import PUBLISH_PATH, publish_route
from crossdock.kit.errors import CrossdockError

_GRACE_S = 5
# Room for the words around the payload of one event.
_ENVELOPE_BYTES = 16 * 1024


class PortTakenError(CrossdockError):
    """The port is taken."""

    code = "port_taken"


def hub_app(services: Services) -> ASGIApp:
    """The whole API."""
    from crossdock.api.app import create_app, hub_api  # noqa: PLC0415 - a worker alone does without, and starts sooner

    settings = services.settings
    return create_app(
        services.provided(),
        api=hub_api(),
        hot_routes=[
            publish_route(
                gatekeeper=services.identity.authenticator, publishing=services.publishing, writer=services.writer
            ),
            *services.inbound.routes(),
            *health_routes(services.database),
            start_page_route(),
        ],
        body_limits={
            PUBLISH_PATH: max(settings.max_batch_bytes, settings.max_payload_bytes + _ENVELOPE_BYTES),
            "/webhooks/": settings.max_payload_bytes,
        },
        upload_limits={"/webhooks/": max(settings.max_upload_bytes, settings.max_payload_bytes)},
        trusted_proxies=settings.trusted_proxies,
    )


def watch_app(services: Services) -> ASGIApp:
    """Health and metrics alone, for a process without the API."""
    return Starlette(routes=health_routes(services.database))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises PortTakenError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortTakenError(
            f"Cannot listen on {host} port {port}: {error.strerror}. "
            "Is another hub running? Stop it, or choose another port with CROSSDOCK_PORT."
        ) from error
    # What is accepted here inherits it, and asyncio would not see to it for a socket that was made like this. An
    # answer's body would wait for its head to be acknowledged: 40 ms with many a client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


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
