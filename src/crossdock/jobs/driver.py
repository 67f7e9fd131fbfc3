"""PgQueuer's way to the database: statements through the worker's pool, notices on a connection of their own."""

import asyncio
from typing import Self

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import Relay
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import Driver, NotifyCallback


class PoolDriver(Driver):
    """Like the library's own pool driver, with three differences.

    A listening connection that dies costs the pool no place, and is replaced under jobs that run on. And no notice is
    sent before it can be heard: the library's first check of its own listener would sometimes fail, and end the run.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._listener: asyncpg.Connection[asyncpg.Record] | None = None
        self._shutdown = asyncio.Event()
        self._tm = TaskManager()
        self._listening = asyncio.Event()

    def listen_on(self, listener: "asyncpg.Connection[asyncpg.Record]") -> asyncio.Event:
        """Have notices come by this connection from now on; the event is set when it is gone."""
        deaf = asyncio.Event()
        listener.add_termination_listener(lambda _listener: deaf.set())
        self._listener = listener
        self._listening.clear()
        return deaf

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """The rows that a statement gives."""
        return [dict(row) for row in await self._pool.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        """The tag that a statement ends with."""
        return await self._pool.execute(query, *args)

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notice, once somebody listens."""
        await self._listening.wait()
        await self._pool.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Pass the payloads of a channel's notices to `callback`."""
        if self._listener is None:
            raise RuntimeError("listen_on comes first")
        await self._listener.add_listener(channel, Relay(callback))
        self._listening.set()

    @property
    def shutdown(self) -> asyncio.Event:
        """Asked for by the library's interface; never set, for a connection that is gone is replaced."""
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        """Asked for by the library's interface; holds nothing."""
        return self._tm

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave pool and connection to whoever made them."""
