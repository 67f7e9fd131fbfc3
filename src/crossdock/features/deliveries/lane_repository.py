"""The worker's statements: leases, lanes, what is due, and what came of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from crossdock.db.changes import LANES_CHANNEL
from crossdock.db.engine import BY_KEYS, Connection, Database, Role
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryKind, DeliveryStatus
from crossdock.features.deliveries.policies import MAX_EXPIRY_S
from crossdock.kit.clock import Clock
from crossdock.kit.ids import uuid_floor

# A delivery older than the longest expiry is not pending; what is older need not be looked at.
_OLDEST_PENDING = timedelta(seconds=MAX_EXPIRY_S) + timedelta(days=1)
# Ids are made by the publishers' clocks, which may be ahead.
_NEWEST_PENDING = timedelta(days=1)
# Clocks that differ by less count as one.
_CLOCKS_AGREE = timedelta(seconds=1)
# How many bytes of payloads one read takes into memory for a lane, beyond its first delivery; less where the lanes
# of the process together hold much already.
_READ_BYTES = 512 * 1024
_LEAST_READ_BYTES = 16 * 1024
# The notice on the lanes' channel that there is one more worker to share the lanes with.
FLEET_GREW = "fleet"
# NOTIFY carries at most 8,000 bytes; beyond this many lanes the notice names none and all look.
_MOST_LANES_IN_NOTICE = 200
# How many overdue or orphaned deliveries one statement ends; more would hold their rows for long.
_MOST_ENDED_AT_ONCE = 5_000
# Asking the enumeration itself takes a tenth of the time that reading a delivery takes.
_KINDS = {kind.value: kind for kind in DeliveryKind}


@dataclass(frozen=True, slots=True)
class Claim:
    """A lane that has just become ours; `clock_behind` is by how much our clock is behind the database's."""

    tenant_id: UUID
    subscription_id: UUID
    epoch: int
    hold_until: datetime | None
    breaker: dict[str, Any] | None
    clock_behind: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Handback:
    """A lane to give back, with what its next owner should know; `as_stored` is what the lane's row has already."""

    tenant_id: UUID
    subscription_id: UUID
    epoch: int
    hold_until: datetime | None = None
    breaker: dict[str, Any] | None = None
    as_stored: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many workers live, and how many lanes are owned in all."""

    workers: int
    owned_lanes: int


class Due(NamedTuple):
    """What is due in a lane, whether there is more, and if not, when the next one is due."""

    rows: list[Pending]
    more: bool
    next_due: datetime | None


@dataclass(slots=True, kw_only=True)
class StoredEvent:
    """An event as read from the database."""

    id: UUID
    type: str
    payload: bytes
    content_type: str
    occurred_at: datetime
    source: str | None
    subject: str | None
    attributes: dict[str, Any] | None


class LaneRepository:
    """Reads and writes lanes as one worker."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(self, worker_id: UUID, *, host: str, pid: int, lease_s: float) -> None:
        """Add the worker's row; the others hear of it, and let it have its share."""
        await self._execute(_REGISTER, worker_id, host, pid, lease_s, LANES_CHANNEL, FLEET_GREW)

    async def renew(self, worker_id: UUID, lease_s: float) -> Fleet | None:
        """Renew the lease; None when the row is gone, and all lanes with it."""
        async with self._worker() as connection:
            row = await connection.fetchrow(_RENEW, worker_id, lease_s)
        return None if row is None else Fleet(row["workers"], row["owned_lanes"])

    async def unregister(self, worker_id: UUID) -> None:
        """Remove the worker's row; lanes still in its name become free."""
        await self._execute("DELETE FROM workers WHERE id = $1", worker_id)

    async def forget_dead_workers(self) -> None:
        """Remove the rows of workers whose lease ended a while ago and whose lanes have new owners."""
        await self._execute(_FORGET_DEAD)

    async def owned(self, worker_id: UUID) -> list[Handback]:
        """The lanes in the worker's name."""
        async with self._worker() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, subscription_id, epoch FROM lanes WHERE owner = $1", worker_id
            )
        return [Handback(row["tenant_id"], row["subscription_id"], row["epoch"], as_stored=True) for row in rows]

    async def claim_woken(self, worker_id: UUID, *, most: int, woken_before_s: float) -> list[Claim]:
        """Take unowned lanes whose time has come at least so many seconds ago."""
        return await self._claim(_CLAIM_WOKEN, worker_id, most, woken_before_s)

    async def claim_orphaned(self, worker_id: UUID, *, most: int) -> list[Claim]:
        """Take lanes whose owner is dead."""
        return await self._claim(_CLAIM_ORPHANED, worker_id, most)

    async def wake_forgotten(self, *, released_within_s: float | None) -> None:
        """Wake unowned lanes with something due: those released lately, or all of them for None."""
        await self._execute(_WAKE_FORGOTTEN, self._floor(), released_within_s, self._ceiling())

    async def read_due(self, lanes: Sequence[Lane]) -> dict[UUID, Due]:
        """For each lane its due deliveries that it does not know yet, oldest first, and what comes after them."""
        windows = [lane.window for lane in lanes]
        # In one transaction, whose `now()` stays: what falls due meanwhile is not overlooked.
        async with self._by_keys() as connection:
            asked_at = self._clock.now()
            rows = await connection.fetch(
                _READ_DUE,
                [lane.destination.tenant_id for lane in lanes],
                [lane.subscription_id for lane in lanes],
                # What is known is still due: so many more have to be looked at to see a window of others.
                [window + len(lane.known) for lane, window in zip(lanes, windows, strict=True)],
                self._floor(),
                [delivery_id for lane in lanes for delivery_id in lane.known],
                asked_at,
                self._ceiling(),
                max(_LEAST_READ_BYTES, min(_READ_BYTES, lanes[0].held.left // len(lanes))),
            )
            found, cut_short = _by_lane(lanes, rows)
            # A full window may have been all there was: then the next read finds nothing.
            more = [cut or len(due) >= window for due, cut, window in zip(found, cut_short, windows, strict=True)]
            exhausted = [lane for lane, some in zip(lanes, more, strict=True) if not some]
            upcoming = await self._next_due(connection, exhausted, asked_at) if exhausted else {}
        return {
            lane.subscription_id: Due(due, some, upcoming.get(lane.subscription_id))
            for lane, due, some in zip(lanes, found, more, strict=True)
        }

    async def _next_due(
        self, connection: Connection, lanes: Sequence[Lane], asked_at: datetime
    ) -> dict[UUID, datetime | None]:
        """For each lane the time of its earliest delivery that was not due yet when it was asked for those."""
        rows = await connection.fetch(
            _NEXT_DUE,
            [lane.destination.tenant_id for lane in lanes],
            [lane.subscription_id for lane in lanes],
            self._floor(),
            asked_at,
            self._ceiling(),
            self._clock.now(),
        )
        return {row["subscription_id"]: row["next_due"] for row in rows}

    async def release(self, worker_id: UUID, lanes: Sequence[Handback]) -> None:
        """Give lanes back; each wakes when its next delivery is due and its hold is over, which may be at once."""
        if not lanes:
            return
        async with self._by_keys() as connection:
            rows = await connection.fetch(
                _RELEASE,
                worker_id,
                [lane.tenant_id for lane in lanes],
                [lane.subscription_id for lane in lanes],
                [lane.epoch for lane in lanes],
                [None if lane.breaker is None else msgspec.json.encode(lane.breaker).decode() for lane in lanes],
                [lane.hold_until for lane in lanes],
                self._floor(),
                [lane.as_stored for lane in lanes],
            )
            due = [row["subscription_id"] for row in rows if row["due"]]
            if due:
                await connection.execute("SELECT pg_notify($1, $2)", LANES_CHANNEL, lanes_notice(due))

    async def expire_held(self) -> int:
        """End overdue deliveries that nobody sends; how many.

        Those of subscriptions that are not active, or are gone, and those left by a hub that stood still so
        long that no lane looks back to them.
        """
        ended = 0
        for statement in (_EXPIRE_HELD, _EXPIRE_FORGOTTEN, _CANCEL_ORPHANED):
            count = _MOST_ENDED_AT_ONCE
            while count == _MOST_ENDED_AT_ONCE:
                async with self._by_keys() as connection:
                    count = len(await connection.fetch(statement, self._floor()))
                ended += count
        return ended

    async def backlog(self) -> tuple[int, float]:
        """How many deliveries are due now (counted to 100,000), and the age in seconds of the oldest."""
        async with self._worker() as connection:
            row = await connection.fetchrow(_BACKLOG, self._floor())
        return (row["due"], float(row["oldest_s"])) if row else (0, 0.0)

    def _floor(self) -> UUID:
        return uuid_floor(self._clock.now() - _OLDEST_PENDING)

    def _ceiling(self) -> UUID:
        """Above every delivery there is: the partitions of the days to come need not be looked at."""
        return uuid_floor(self._clock.now() + _NEWEST_PENDING)

    def _worker(self) -> "asyncpg.pool.PoolAcquireContext[asyncpg.Record]":
        return self._database.pool(Role.WORKER).acquire()

    @asynccontextmanager
    async def _by_keys(self) -> AsyncIterator[Connection]:
        async with self._worker() as connection, connection.transaction():
            await connection.execute(BY_KEYS)
            yield connection

    async def _execute(self, statement: str, *arguments: object) -> None:
        async with self._worker() as connection:
            await connection.execute(statement, *arguments)

    def _behind(self, theirs: datetime) -> timedelta:
        behind = theirs - self._clock.now()
        return behind if behind > _CLOCKS_AGREE else timedelta()

    async def _claim(self, statement: str, *arguments: object) -> list[Claim]:
        async with self._worker() as connection:
            rows = await connection.fetch(statement, *arguments)
        return [
            Claim(
                row["tenant_id"],
                row["subscription_id"],
                row["epoch"],
                row["hold_until"],
                None if row["breaker"] is None else msgspec.json.decode(row["breaker"]),
                self._behind(row["now"]),
            )
            for row in rows
        ]


def lanes_notice(subscription_ids: Sequence[UUID]) -> str:
    """What tells workers that these lanes have something due."""
    if len(subscription_ids) > _MOST_LANES_IN_NOTICE:
        return "*"
    return ",".join(subscription_id.hex for subscription_id in subscription_ids)


def _by_lane(lanes: Sequence[Lane], rows: Sequence[asyncpg.Record]) -> tuple[list[list[Pending]], list[bool]]:
    """Each lane's deliveries, and whether the bytes that one read takes were too few for all."""
    found: list[list[Pending]] = [[] for _ in lanes]
    cut_short = [False] * len(lanes)
    for row in rows:
        at = row["lane"] - 1
        if row["beyond"]:
            cut_short[at] = True
        else:
            found[at].append(_pending(lanes[at].destination.tenant_id, row))
    return found, cut_short


def _pending(tenant_id: UUID, row: asyncpg.Record) -> Pending:
    event = None
    if row["payload"] is not None:
        event = StoredEvent(
            id=row["event_id"],
            type=row["type"],
            payload=row["payload"],
            content_type=row["content_type"],
            occurred_at=row["occurred_at"],
            source=row["source"],
            subject=row["subject"],
            attributes=None if row["attributes"] is None else msgspec.json.decode(row["attributes"]),
        )
    return Pending(
        tenant_id=tenant_id,
        id=row["id"],
        message_id=row["message_id"],
        kind=_KINDS[row["kind"]],
        attempt_count=row["attempt_count"],
        expires_at=row["expires_at"],
        correlation_id=row["correlation_id"] or "",
        event=event,
    )


_REGISTER = """
WITH joined AS (
  INSERT INTO workers (id, host, pid, lease_until) VALUES ($1, $2, $3, now() + make_interval(secs => $4))
)
SELECT pg_notify($5, $6)
"""

_RENEW = """
UPDATE workers SET lease_until = now() + make_interval(secs => $2) WHERE id = $1
RETURNING (SELECT count(*) FROM workers w WHERE w.lease_until > now() OR w.id = $1) AS workers,
          (SELECT count(*) FROM lanes WHERE owner IS NOT NULL) AS owned_lanes
"""

_FORGET_DEAD = """
DELETE FROM workers w WHERE lease_until < now() - interval '1 hour'
   AND NOT EXISTS (SELECT FROM lanes l WHERE l.owner = w.id)
"""

# Locked rows are skipped: another worker is claiming them, or a publisher waking them.
_CLAIM_WOKEN = """
WITH free AS (
  SELECT l.tenant_id, l.subscription_id FROM lanes l
   WHERE l.owner IS NULL AND l.wake_at <= now() - make_interval(secs => $3)
     AND EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = l.tenant_id AND s.id = l.subscription_id
                    AND s.status = 'active')
   ORDER BY l.wake_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE lanes l SET owner = $1, epoch = l.epoch + 1, wake_at = NULL
  FROM free f WHERE l.tenant_id = f.tenant_id AND l.subscription_id = f.subscription_id
RETURNING l.tenant_id, l.subscription_id, l.epoch, l.hold_until, l.breaker, clock_timestamp() AS now
"""

_CLAIM_ORPHANED = """
WITH orphaned AS (
  SELECT l.tenant_id, l.subscription_id FROM lanes l
   WHERE l.owner IS NOT NULL
     AND NOT EXISTS (SELECT FROM workers w WHERE w.id = l.owner AND w.lease_until > now())
   LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE lanes l SET owner = $1, epoch = l.epoch + 1, wake_at = NULL
  FROM orphaned o WHERE l.tenant_id = o.tenant_id AND l.subscription_id = o.subscription_id
RETURNING l.tenant_id, l.subscription_id, l.epoch, l.hold_until, l.breaker, clock_timestamp() AS now
"""

# A publisher that saw a lane owned did not wake it; when its owner let go just before the publisher
# committed, nobody looks. So lanes released lately are looked at again, for longer than a commit takes.
_WAKE_FORGOTTEN = """
UPDATE lanes l SET wake_at = now()
 WHERE l.owner IS NULL AND (l.wake_at IS NULL OR l.wake_at > now())
   AND ($2::float8 IS NULL OR l.released_at > now() - make_interval(secs => $2))
   AND (l.hold_until IS NULL OR l.hold_until <= now())
   AND (SELECT true FROM deliveries d WHERE d.tenant_id = l.tenant_id AND d.subscription_id = l.subscription_id
           AND d.status = 'pending' AND d.due_at <= now() AND d.id >= $1 AND d.id < $3 LIMIT 1)
"""

# Publishers write `due_at` by the database's clock and workers by their own: due is what either calls due.
# Otherwise a worker whose clock is ahead would ask again and again for what the database holds back.
_READ_DUE = """
SELECT l.lane, d.id, d.message_id, d.kind, d.attempt_count, d.expires_at, d.event_id,
       CASE WHEN NOT d.beyond THEN d.payload END AS payload,
       d.type, d.content_type, d.occurred_at, d.source, d.subject, d.attributes, d.correlation_id, d.beyond
  FROM unnest($1::uuid[], $2::uuid[], $3::int[]) WITH ORDINALITY AS l (tenant_id, subscription_id, most, lane)
 CROSS JOIN LATERAL (
   SELECT w.*, e.payload, e.type, e.content_type, e.occurred_at, e.source, e.subject, e.attributes, e.correlation_id,
          coalesce(sum(octet_length(e.payload))
                     OVER (ORDER BY w.due_at, w.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
            > $8::bigint AS beyond
     FROM (SELECT c.*, c.id IN (SELECT k FROM unnest($5::uuid[]) AS k) AS known
             FROM (SELECT d.id, d.message_id, d.kind, d.attempt_count, d.due_at, d.expires_at, d.event_id
                     FROM deliveries d
                    WHERE d.tenant_id = l.tenant_id AND d.subscription_id = l.subscription_id
                      AND d.status = 'pending' AND d.due_at <= greatest(now(), $6::timestamptz)
                      AND d.id >= $4 AND d.id < $7
                    ORDER BY d.due_at, d.id LIMIT l.most) AS c) AS w
     LEFT JOIN events e ON e.tenant_id = l.tenant_id AND e.id = w.event_id
    WHERE NOT w.known) AS d
 ORDER BY l.lane, d.due_at, d.id
"""

# A retry may have fallen due since $4, when it was asked what is due. What was published since then is left out: the
# lane is told of it, and asking again for that alone would keep it from taking what is published next from memory.
_NEXT_DUE = """
SELECT l.subscription_id,
       (SELECT d.due_at FROM deliveries d
         WHERE d.tenant_id = l.tenant_id AND d.subscription_id = l.subscription_id
           AND d.status = 'pending' AND d.due_at > greatest(now(), $4::timestamptz)
           AND (d.attempt_count > 0 OR d.due_at > greatest(clock_timestamp(), $6::timestamptz))
           AND d.id >= $3 AND d.id < $5
         ORDER BY d.due_at LIMIT 1) AS next_due
  FROM unnest($1::uuid[], $2::uuid[]) AS l (tenant_id, subscription_id)
"""

_RELEASE = """
UPDATE lanes l
   SET owner = NULL, released_at = now(), breaker = CASE WHEN u.as_stored THEN l.breaker ELSE u.breaker::jsonb END,
       hold_until = CASE WHEN u.as_stored THEN l.hold_until ELSE u.hold_until END,
       wake_at = greatest(CASE WHEN u.as_stored THEN l.hold_until ELSE u.hold_until END,
                          (SELECT d.due_at FROM deliveries d
                            WHERE d.tenant_id = l.tenant_id AND d.subscription_id = l.subscription_id
                              AND d.status = 'pending' AND d.id >= $7
                            ORDER BY d.due_at LIMIT 1))
  FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::timestamptz[], $8::bool[])
       AS u (tenant_id, subscription_id, epoch, breaker, hold_until, as_stored)
 WHERE l.tenant_id = u.tenant_id AND l.subscription_id = u.subscription_id AND l.owner = $1 AND l.epoch = u.epoch
RETURNING l.subscription_id, l.wake_at <= now() AS due
"""

# A lane that has an owner may have one of them under way; it is given back once that has ended.
_EXPIRE_HELD = f"""
UPDATE deliveries d
   SET status = '{DeliveryStatus.EXPIRED}', finished_at = now(), error = 'Not sent before it expired.'
  FROM (SELECT x.tenant_id, x.id FROM subscriptions s
          JOIN lanes l ON l.tenant_id = s.tenant_id AND l.subscription_id = s.id AND l.owner IS NULL
          JOIN deliveries x ON x.tenant_id = s.tenant_id AND x.subscription_id = s.id
         WHERE s.status <> 'active' AND x.status = 'pending' AND x.expires_at <= now() AND x.id >= $1
         LIMIT {_MOST_ENDED_AT_ONCE} FOR UPDATE OF x SKIP LOCKED) AS overdue
 WHERE d.tenant_id = overdue.tenant_id AND d.id = overdue.id AND d.status::text = 'pending'
RETURNING d.id
"""

_EXPIRE_FORGOTTEN = f"""
UPDATE deliveries d
   SET status = '{DeliveryStatus.EXPIRED}', finished_at = now(), error = 'Not sent before it expired.'
  FROM (SELECT x.tenant_id, x.id FROM deliveries x
         WHERE x.status = 'pending' AND x.expires_at <= now() AND x.id < $1
         LIMIT {_MOST_ENDED_AT_ONCE} FOR UPDATE OF x SKIP LOCKED) AS overdue
 WHERE d.tenant_id = overdue.tenant_id AND d.id = overdue.id AND d.status::text = 'pending'
RETURNING d.id
"""

# A publisher that planned before a subscription was deleted may commit after, and one with very many pending
# deliveries is deleted before them all. Whose deliveries are pending is found by going from one lane to the next in the
# index of what is pending, which every other order would leave.
_CANCEL_ORPHANED = f"""
WITH RECURSIVE waiting AS (
  (SELECT d.tenant_id, d.subscription_id FROM deliveries d WHERE d.status = 'pending' AND d.id >= $1
    ORDER BY d.tenant_id, d.subscription_id, d.due_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.subscription_id FROM waiting w CROSS JOIN LATERAL (
    SELECT d.tenant_id, d.subscription_id FROM deliveries d
     WHERE d.status = 'pending' AND d.id >= $1
       AND (d.tenant_id, d.subscription_id) > (w.tenant_id, w.subscription_id)
     ORDER BY d.tenant_id, d.subscription_id, d.due_at LIMIT 1) AS n)
UPDATE deliveries d
   SET status = '{DeliveryStatus.CANCELLED}', finished_at = now(), error = 'The subscription was deleted.'
  FROM (SELECT x.tenant_id, x.id FROM waiting w
          JOIN deliveries x ON x.tenant_id = w.tenant_id AND x.subscription_id = w.subscription_id
         WHERE NOT EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = w.tenant_id AND s.id = w.subscription_id)
           AND x.status = 'pending' AND x.id >= $1
         LIMIT {_MOST_ENDED_AT_ONCE} FOR UPDATE OF x SKIP LOCKED) AS orphaned
 WHERE d.tenant_id = orphaned.tenant_id AND d.id = orphaned.id AND d.status::text = 'pending'
RETURNING d.id
"""

_BACKLOG = """
SELECT count(*) AS due, coalesce(extract(epoch FROM now() - min(d.due_at)), 0) AS oldest_s
  FROM (SELECT d.due_at FROM deliveries d JOIN subscriptions s ON s.tenant_id = d.tenant_id AND s.id = d.subscription_id
         WHERE d.status = 'pending' AND d.due_at <= now() AND d.id >= $1 AND s.status = 'active'
         LIMIT 100000) AS d
"""
