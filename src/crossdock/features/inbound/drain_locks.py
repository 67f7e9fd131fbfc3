"""Who works an ordered endpoint off: one job in all workers, by a lock that dies with its worker.

All locks of a process are held by one connection of their own: handlers may take long, and a pooled
connection for each endpoint would leave none for anything else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.db.urls import libpq_url
from crossdock.kit.errors import UnavailableError

_TIMEOUT_S = 5
# A machine that went without a word must not keep its locks for as long as TCP would wait for it.
_SOON_MISSED = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2"}


class Hold:
    """A lock that was got."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    @property
    def is_lost(self) -> bool:
        """Whether another worker may have it by now."""
        return self._connection.is_closed()


class DrainLocks:
    """The locks of one process on ordered endpoints."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()
        # The database grants a connection what it has already.
        self._held: set[UUID] = set()

    async def stop(self) -> None:
        """Give up all locks."""
        async with self._turn:
            if self._connection is not None:
                with suppress(*CONNECTION_LOST):
                    await self._connection.close(timeout=1)

    @asynccontextmanager
    async def hold(self, endpoint_id: UUID) -> AsyncIterator[Hold | None]:
        """The lock on an endpoint, None when it is another's; raises UnavailableError."""
        if endpoint_id in self._held:
            yield None
            return
        self._held.add(endpoint_id)
        try:
            connection = await self._locked(endpoint_id)
            if connection is None:
                yield None
                return
            try:
                yield Hold(connection)
            finally:
                await self._unlock(connection, endpoint_id)
        finally:
            self._held.discard(endpoint_id)

    async def _locked(self, endpoint_id: UUID) -> "asyncpg.Connection[asyncpg.Record] | None":
        """The connection that holds the lock now."""
        async with self._turn:
            try:
                connection = await self._connected()
                got = await connection.fetchval(_LOCK, _name(endpoint_id))
            except CONNECTION_LOST as error:
                self._hang_up()
                raise UnavailableError from error
            except BaseException:
                # Whether it was got is not known.
                self._hang_up()
                raise
        return connection if got else None

    async def _unlock(self, connection: "asyncpg.Connection[asyncpg.Record]", endpoint_id: UUID) -> None:
        try:
            async with self._turn:
                if not connection.is_closed():
                    await connection.execute(_UNLOCK, _name(endpoint_id))
        except BaseException as error:
            # Cancelled or failed, it may still be held. The other drains stop when they see it, and begin again.
            connection.terminate()
            if not isinstance(error, CONNECTION_LOST):
                raise

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                libpq_url(self._database.dsn),
                timeout=_TIMEOUT_S,
                command_timeout=_TIMEOUT_S,
                server_settings={
                    "role": Role.WORKER.value,
                    "application_name": "crossdock_drains",
                    **_SOON_MISSED,
                },
            )
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


def _name(endpoint_id: UUID) -> str:
    return f"inbound.ordered:{endpoint_id}"


_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended($1, 0))"
