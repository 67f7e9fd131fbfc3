"""Running a hub in several equal processes that share one port: what their parent does, and what each of them."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import msgspec
import structlog

from crossdock.api.listening import base_url, listen, listen_as_set
from crossdock.cli.running import note_running
from crossdock.cli.stopping import told_to_stop
from crossdock.cli.supervisor import Patience, Start, Supervisor, inherited_environment
from crossdock.db import migrate
from crossdock.db.server import serving_database
from crossdock.kit.clock import SystemClock
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings

# A process that stops waits so much longer than for its work: for requests, for the database to take the last records.
_STOP_MARGIN_S = 30

_log = structlog.get_logger(__name__)


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is told as it starts; descriptors are those that it inherits. Settings are in the environment."""

    number: int
    api: bool
    worker: bool
    demo: bool
    lifeline: int
    listener: int | None
    metrics: int | None
    # Where each process of the hub tells its metrics, by number.
    metrics_ports: dict[int, int]


def run_crew(
    settings: Settings, *, api: bool, worker: bool, ready: Callable[[str], Awaitable[None]], demo: bool = False
) -> None:
    """Run `settings.workers` processes until SIGTERM, SIGINT or SIGHUP; then stop them in order, and the database last.

    This process runs neither API nor worker, and loads neither. `ready` is called once all are ready, with the
    API's base URL (empty without the API); the first one has made the demo tenant by then if there is to be one.
    """
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    crew = _Crew(settings, api=api, worker=worker, demo=demo)
    # Not uvloop: its subprocesses cannot have process groups.
    asyncio.run(crew.run(ready))


class _Crew:
    def __init__(self, settings: Settings, *, api: bool, worker: bool, demo: bool) -> None:
        self._settings = settings
        self._api = api
        self._worker = worker
        self._demo = demo
        self._listener: socket.socket | None = None
        self._tellers: dict[int, socket.socket] = {}

    async def run(self, ready: Callable[[str], Awaitable[None]]) -> None:
        settings = self._settings
        stopping = told_to_stop()
        with ExitStack() as stack:
            # Before anything else is started: a port that is taken is found out at once.
            self._listen(stack)
            url = base_url(self._listener, settings) if self._api and self._listener is not None else ""

            async def all_ready() -> None:
                if url:
                    stack.callback(note_running(settings, url))
                _log.info("all_started", processes=settings.workers, url=url or None)
                await ready(url)

            database = settings.database_url
            async with serving_database(
                None if database is None else database.get_secret_value(),
                data_dir=settings.data_dir,
                processes=settings.workers,
                kept_alive=True,
            ) as dsn:
                await migrate.check(dsn)
                await self._supervisor().run(stopping, ready=all_ready, leaving=stack.close)

    def _listen(self, stack: ExitStack) -> None:
        self._listener = listen_as_set(self._settings, api=self._api)
        if self._listener is None:
            return
        stack.enter_context(self._listener)
        for number in range(1, self._settings.workers + 1):
            self._tellers[number] = stack.enter_context(listen("127.0.0.1", 0))

    def _supervisor(self) -> Supervisor:
        settings = self._settings
        return Supervisor(
            self._start,
            count=settings.workers,
            # What this process was told on its command line; the rest is there already.
            environment=inherited_environment(
                allow_loopback=str(settings.allow_loopback).lower(), workers=str(settings.workers)
            ),
            clock=SystemClock(),
            patience=Patience(stop_within_s=settings.drain_timeout_s + _STOP_MARGIN_S),
        )

    def _start(self, number: int, lifeline: int) -> Start:
        teller = self._tellers.get(number)
        orders = Orders(
            number=number,
            api=self._api,
            worker=self._worker,
            demo=self._demo and number == 1,
            lifeline=lifeline,
            listener=None if self._listener is None else self._listener.fileno(),
            metrics=None if teller is None else teller.fileno(),
            metrics_ports={other: one.getsockname()[1] for other, one in self._tellers.items()},
        )
        program = "from crossdock.cli.crew_member import main; main()"
        return Start(
            # -P: as for the installed command, what lies in the working folder is none of our modules.
            [sys.executable, "-P", "-c", program, msgspec.json.encode(orders).decode()],
            [one for one in (orders.listener, orders.metrics) if one is not None],
        )
