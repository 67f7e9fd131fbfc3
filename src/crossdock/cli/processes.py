"""Running a hub's processes: API, worker, or both in one; until a signal says stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
import uvloop

from crossdock.api.server import hub_app, listen, serving, watch_app
from crossdock.bootstrap import Services, build
from crossdock.cli.garbage import collect_seldom
from crossdock.cli.running import note_running
from crossdock.observability.logging import configure_logging
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
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A closed terminal hangs up; under nohup that is ignored, and stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        listener = None
        if api:
            # Before anything else is started: a port that is taken is found out at once.
            listener = stack.enter_context(listen(settings.host, settings.port))
        services = await stack.enter_async_context(build(settings))
        if worker:
            working = Worker(services)
            await working.start()
            stack.push_async_callback(working.stop)
        url = ""
        if listener is not None:
            url = _base_url(settings.host, listener.getsockname()[1])
            await stack.enter_async_context(serving(hub_app(services), [listener]))
            stack.callback(note_running(settings, url))
        elif settings.worker_port is not None:
            watcher = stack.enter_context(listen(settings.host, settings.worker_port))
            await stack.enter_async_context(serving(watch_app(services), [watcher]))
        collect_seldom()
        _log.info("started", api=api, worker=worker, url=url or None)
        if ready is not None:
            await ready(services, url)
        await stopping.wait()
        _log.info("stopping")


def _base_url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
