"""One of the equal processes of a hub; its parent is in crew.py."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import structlog
import uvloop

from crossdock.cli.command_group import explained
from crossdock.cli.crew import Orders
from crossdock.cli.demo_tenant import demo_tenant
from crossdock.cli.output import print_error
from crossdock.cli.processes import hub
from crossdock.cli.stopping import told_to_stop
from crossdock.cli.supervisor import BEAT, BEAT_S, READY
from crossdock.observability.gathering import Gathering, own_metrics, told_to_others
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run as the parent ordered, until told to stop or the parent is gone; then stop in order."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    try:
        settings = Settings()
        configure_logging(level=settings.log_level, log_format=settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, orders))
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        exit_code, message = told
        print_error(message)
        raise SystemExit(exit_code) from None


async def _run(settings: Settings, orders: Orders) -> None:
    stopping = told_to_stop()
    async with AsyncExitStack() as stack:
        lifeline = stack.enter_context(socket.socket(fileno=orders.lifeline))
        lifeline.setblocking(False)  # noqa: FBT003 - the socket's own signature
        await stack.enter_async_context(_watching(lifeline, stopping))
        await stack.enter_async_context(beating(lifeline))
        metrics = own_metrics
        if orders.metrics is not None:
            teller = stack.enter_context(socket.socket(fileno=orders.metrics))
            await stack.enter_async_context(told_to_others(teller))
            metrics = Gathering(number=orders.number, ports=orders.metrics_ports).metrics
        listener = None if orders.listener is None else socket.socket(fileno=orders.listener)
        services = await stack.enter_async_context(
            hub(settings, api=orders.api, worker=orders.worker, listener=listener, metrics=metrics)
        )
        if orders.demo and listener is not None:
            await demo_tenant(services, f"http://127.0.0.1:{listener.getsockname()[1]}")
        _log.info("started", process=orders.number, api=orders.api, worker=orders.worker)
        with suppress(OSError):  # the parent is gone, which is noticed beside this
            lifeline.send(READY)
        await stopping.wait()
        _log.info("stopping", process=orders.number)


@asynccontextmanager
async def _watching(lifeline: socket.socket, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Stop when the parent is gone: it writes nothing, so what is read is the end of the stream."""

    async def watch() -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().sock_recv(lifeline, 1)
        _log.error("parent_gone")
        stopping.set()

    watching = asyncio.create_task(watch(), name="lifeline")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@asynccontextmanager
async def beating(lifeline: socket.socket, *, beat_s: float = BEAT_S) -> AsyncIterator[None]:
    """Tell the parent again and again that this process's loop goes round."""

    async def beat() -> None:
        while True:
            with suppress(OSError):  # the parent does not read, or is gone, which is noticed beside this
                lifeline.send(BEAT)
            await asyncio.sleep(beat_s)

    task = asyncio.create_task(beat(), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
