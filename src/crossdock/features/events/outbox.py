"""Publishing what the outbox holds: each entry becomes an event under its own id, then goes."""

import asyncio

import msgspec
import structlog

from crossdock.db.engine import Database, Role
from crossdock.features.events.ingest import EventWriter, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.kit.errors import UnavailableError

_MOST_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class OutboxRelay:
    """Empties the outbox."""

    def __init__(self, *, database: Database, writer: EventWriter) -> None:
        self._database = database
        self._writer = writer

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
        events = [
            NewEvent(
                tenant_id=row["tenant_id"],
                id=row["id"],
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
        for event, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, UnavailableError):
                raise outcome
            if isinstance(outcome, BaseException):
                _log.error("outbox_entry_stays", outbox_id=str(event.id), error=repr(outcome))
            else:
                published.append(event)
        async with pool.acquire() as connection:
            await connection.execute(
                "DELETE FROM outbox o USING unnest($1::uuid[], $2::uuid[]) AS u (t, i) "
                "WHERE o.tenant_id = u.t AND o.id = u.i",
                [event.tenant_id for event in published],
                [event.id for event in published],
            )
        return len(published)
