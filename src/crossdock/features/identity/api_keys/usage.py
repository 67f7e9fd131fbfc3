"""How often each key was used and when last: counted in memory, written a few times a minute."""

import asyncio
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.features.identity.api_keys import repository

_WRITE_EVERY_S = 5.0

_log = structlog.get_logger(__name__)


class UsageWriter:
    """Writes the use of keys in batches; `start` it, and `stop` it to write the rest."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._counts: dict[UUID, tuple[UUID, int, datetime]] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, *, tenant_id: UUID, key_id: UUID, at: datetime) -> None:
        """Count one use at this moment."""
        counted = self._counts.get(key_id)
        self._counts[key_id] = (tenant_id, (counted[1] if counted else 0) + 1, at)

    def start(self) -> None:
        """Begin to write by itself."""
        self._task = asyncio.create_task(self._loop(), name="key-usage")

    async def stop(self) -> None:
        """Write what is left and end."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(*CONNECTION_LOST):
            await self.write()

    async def write(self) -> None:
        """Write what was counted since the last time; counts it again when that fails."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            async with self._database.pool(Role.WORKER).acquire() as connection:
                await repository.add_usage(connection, counts)
        except BaseException:
            for key_id, (tenant_id, count, at) in counts.items():
                later = self._counts.get(key_id)
                self._counts[key_id] = (tenant_id, count + (later[1] if later else 0), later[2] if later else at)
            raise

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await self.write()
            except CONNECTION_LOST as error:
                _log.warning("key_usage_not_written", error=str(error))
