"""Running a hub in this process: API, worker, or both; until a signal says stop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import uvloop

from crossdock.api.listening import base_url, listen_as_set
from crossdock.api.server import hub_app, serving, watch_app
from crossdock.bootstrap import Services, build
from crossdock.cli.garbage import collect_seldom
from crossdock.cli.open_files import allow_many_open_files
from crossdock.cli.running import note_running
from crossdock.cli.stopping import told_to_stop
from crossdock.observability.gathering import own_metrics
from crossdock.observability.logging import configure_logging
from crossdock.observability.tracing import exporting_traces
from crossdock.settings import Settings
from crossdock.worker.worker import Worker

_log = structlog.get_logger(__name__)

Ready = Callable[[Services, str], Awaitable[None]]


def run_hub(settings: Settings, *, api: bool, worker: bool, ready: Ready | None = None) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, then stop in order: no new requests, work in hand done, all recorded.

    `ready` is called once everything runs, with the API's base URL (empty without the API).
    """
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, api=api, worker=worker, ready=ready))


async def _run(settings: Settings, *, api: bool, worker: bool, ready: Ready | None) -> None:
    stopping = told_to_stop()
    async with AsyncExitStack() as stack:
        # Before anything else is started: a port that is taken is found out at once.
        listener = listen_as_set(settings, api=api)
        services = await stack.enter_async_context(hub(settings, api=api, worker=worker, listener=listener))
        url = base_url(listener, settings) if api and listener is not None else ""
        if url:
            stack.callback(note_running(settings, url))
        _log.info("started", api=api, worker=worker, url=url or None)
        if ready is not None:
            await ready(services, url)
        await stopping.wait()
        _log.info("stopping")


@asynccontextmanager
async def hub(
    settings: Settings,
    *,
    api: bool,
    worker: bool,
    listener: socket.socket | None,
    metrics: Callable[[], Awaitable[bytes]] = own_metrics,
) -> AsyncIterator[Services]:
    """A running hub; stopped in order on leaving. Without the API, `listener` answers to whoever watches."""
    allow_many_open_files()
    async with AsyncExitStack() as stack:
        if listener is not None:
            stack.enter_context(listener)
        await stack.enter_async_context(exporting_traces(settings.otlp_endpoint))
        services = await stack.enter_async_context(build(settings))
        if worker:
            working = Worker(services)
            await working.start()
            stack.push_async_callback(working.stop)
        if listener is not None:
            app = hub_app(services, metrics=metrics) if api else watch_app(services, metrics=metrics)
            await stack.enter_async_context(serving(app, [listener]))
        collect_seldom()
        yield services
