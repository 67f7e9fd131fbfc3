"""Publishing what the outbox holds: each entry becomes an event under its own id, then goes."""

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

import asyncpg
import msgspec
import structlog

from crossdock.db.engine import Database, Role
from crossdock.features.events.ingest import EventWriter, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import uuid_floor, uuid_time

_MOST_AT_ONCE = 500
# The partitions of these days are always there (db/partitions.py).
_PARTITIONS_BACK = _PARTITIONS_AHEAD = timedelta(days=1)
_MOST_ERROR_CHARS = 500
# All of an id but its time.
_UNTIMED = (1 << 80) - 1

_log = structlog.get_logger(__name__)


class OutboxRelay:
    """Empties the outbox."""

    def __init__(self, *, database: Database, writer: EventWriter, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock

    async def drain(self) -> None:
        """Publish everything that is in the outbox now.

        What cannot be published stays: it is set aside with its error, logged, and tried again after as long as it
        has waited, a minute to an hour. Raises UnavailableError when nothing can be published.
        """
        while await self._drain_some() == _MOST_AT_ONCE:
            pass

    async def _drain_some(self) -> int:
        async with self._database.pool(Role.WORKER).acquire() as connection:
            rows = await connection.fetch(_NEXT, _MOST_AT_ONCE)
        if not rows:
            return 0
        outcomes = await asyncio.gather(
            *(self._writer.publish([self._event(row)]) for row in rows), return_exceptions=True
        )
        published, refused, unavailable = [], [], None
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, UnavailableError):
                unavailable = outcome
            elif isinstance(outcome, BaseException):
                refused.append((row, repr(outcome)[:_MOST_ERROR_CHARS]))
            else:
                published.append(row)
        await self._remove(published)
        await self._set_aside(refused)
        if unavailable is not None:
            raise unavailable
        return len(rows)

    def _event(self, row: asyncpg.Record) -> NewEvent:
        return NewEvent(
            tenant_id=row["tenant_id"],
            id=self._event_id(row["id"]),
            type=row["type"],
            payload=msgspec.json.encode(msgspec.json.decode(row["data"])),
            content_type="application/json",
            correlation_id=row["correlation_id"] or row["id"].hex,
            origin=EventOrigin.SYSTEM,
            occurred_at=row["created_at"],
        )

    def _event_id(self, entry_id: UUID) -> UUID:
        """The entry's, or one of today where its day has no partition: the same for all who publish it.

        None may be there any more for an entry that waited through a long standstill, and none yet for one of a
        machine whose clock is wrong.
        """
        now = self._clock.now()
        if (now - _PARTITIONS_BACK).date() <= _day(entry_id) <= (now + _PARTITIONS_AHEAD).date():
            return entry_id
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return UUID(int=uuid_floor(midnight).int | entry_id.int & _UNTIMED)

    async def _remove(self, published: list[asyncpg.Record]) -> None:
        if published:
            async with self._database.pool(Role.WORKER).acquire() as connection:
                await connection.execute(_REMOVE, *_keys(published))

    async def _set_aside(self, refused: list[tuple[asyncpg.Record, str]]) -> None:
        for row, error in refused:
            _log.error("outbox_entry_set_aside", outbox_id=str(row["id"]), type=row["type"], error=error)
        if refused:
            async with self._database.pool(Role.WORKER).acquire() as connection:
                rows, errors = zip(*refused, strict=True)
                await connection.execute(_SET_ASIDE, *_keys(rows), list(errors))


def _day(entry_id: UUID) -> date:
    """The day of an entry; an id that is none of ours may name a moment that no calendar has."""
    try:
        return uuid_time(entry_id).date()
    except (ValueError, OverflowError, OSError):
        return date.max


def _keys(rows: Sequence[asyncpg.Record]) -> tuple[list[UUID], list[UUID]]:
    return [row["tenant_id"] for row in rows], [row["id"] for row in rows]


_NEXT = """
SELECT tenant_id, id, type, data, correlation_id, created_at FROM outbox
 WHERE retry_at IS NULL OR retry_at <= now() ORDER BY id LIMIT $1
"""

_REMOVE = """
DELETE FROM outbox o USING unnest($1::uuid[], $2::uuid[]) AS u (t, i) WHERE o.tenant_id = u.t AND o.id = u.i
"""

_SET_ASIDE = """
UPDATE outbox o
   SET error = u.e, retry_at = now() + least(greatest(now() - o.created_at, interval '1 minute'), interval '1 hour')
  FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS u (t, i, e) WHERE o.tenant_id = u.t AND o.id = u.i
"""
