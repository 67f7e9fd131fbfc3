"""Publishing what the outbox holds: each entry becomes an event under its own id, then goes."""

import asyncio
from datetime import timedelta

import msgspec
import structlog

from crossdock.db.engine import Database, Role
from crossdock.features.events.ingest import EventWriter, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid, uuid_time

_MOST_AT_ONCE = 500
# Yesterday's partition is always there (db/partitions.py).
_PARTITIONS_BACK = timedelta(days=1)

_log = structlog.get_logger(__name__)


class OutboxRelay:
    """Empties the outbox."""

    def __init__(self, *, database: Database, writer: EventWriter, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock

    async def drain(self) -> None:
        """Publish everything that is in the outbox now; what cannot be published stays, and is logged."""
        while await self._drain_some() == _MOST_AT_ONCE:
            pass

    async def _drain_some(self) -> int:
        pool = self._database.pool(Role.WORKER)
        async with pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, id, type, data, correlation_id, created_at FROM outbox ORDER BY id LIMIT $1",
                _MOST_AT_ONCE,
            )
        if not rows:
            return 0
        oldest_day = (self._clock.now() - _PARTITIONS_BACK).date()
        events = [
            NewEvent(
                tenant_id=row["tenant_id"],
                # There may be no partition any more for an entry that waited through a long standstill.
                id=row["id"] if uuid_time(row["id"]).date() >= oldest_day else new_uuid(),
                type=row["type"],
                payload=msgspec.json.encode(msgspec.json.decode(row["data"])),
                content_type="application/json",
                correlation_id=row["correlation_id"] or row["id"].hex,
                origin=EventOrigin.SYSTEM,
                occurred_at=row["created_at"],
            )
            for row in rows
        ]
        outcomes = await asyncio.gather(*(self._writer.publish([event]) for event in events), return_exceptions=True)
        published = []
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, UnavailableError):
                raise outcome
            if isinstance(outcome, BaseException):
                _log.error("outbox_entry_stays", outbox_id=str(row["id"]), error=repr(outcome))
            else:
                published.append(row)
        async with pool.acquire() as connection:
            await connection.execute(
                "DELETE FROM outbox o USING unnest($1::uuid[], $2::uuid[]) AS u (t, i) "
                "WHERE o.tenant_id = u.t AND o.id = u.i",
                [row["tenant_id"] for row in published],
                [row["id"] for row in published],
            )
        return len(published)
