"""Recording what came of deliveries: many attempts and new states in one transaction.

Each result names the epoch its lane was owned under. The transaction holds the lanes' rows while it
writes, and writes nothing for a lane that has changed hands: its new owner sends again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from crossdock.db.engine import BY_KEYS, CONNECTION_LOST, Connection, Database, Role
from crossdock.db.group_commit import GroupCommit
from crossdock.features.deliveries.alarms import alarm
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryStatus, SubscriptionStatus
from crossdock.features.deliveries.outcomes import Outcome
from crossdock.gateway.headers import HeaderPairs
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import IdKind, format_id, new_uuid
from crossdock.observability import metrics


@dataclass(slots=True, kw_only=True)
class SentAttempt:
    """What was sent, when, and what came back."""

    number: int
    started_at: datetime
    ended_at: datetime
    url: str
    request_headers: dict[str, str]
    request_body: bytes | None
    outcome: Outcome


@dataclass(slots=True, kw_only=True)
class Result:
    """The new state of one delivery; `attempt` is None when nothing was sent (expired, not renderable)."""

    lane: Lane
    pending: Pending
    status: DeliveryStatus
    due_at: datetime | None
    finished_at: datetime | None
    error: str | None
    attempt: SentAttempt | None
    attempt_count: int
    hold_until: datetime | None = None
    breaker: dict[str, Any] | None = None
    breaker_changed: bool = False
    disables: str | None = None
    counts_as: bool | None = None
    announcements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stripped: bool = False

    def strip(self) -> bool:
        """Leave out everything that others said; False when that was done already."""
        if self.stripped:
            return False
        self.stripped = True
        self.error = "What came of it could not be stored."
        if self.attempt is not None:
            self.error = "What the destination answered could not be stored."
            self.attempt.outcome = replace(self.attempt.outcome, headers=None, body=None, error=self.error)
        self.announcements = [
            (event_type, data | {"error": self.error} if "error" in data else data)
            for event_type, data in self.announcements
        ]
        return True


class Recorder:
    """Writes results; `record` says whether the lane was still ours."""

    def __init__(self, *, database: Database, disable_after_failed: int) -> None:
        self._database = database
        self._disable_after_failed = disable_after_failed
        self._worker_id = UUID(int=0)
        self._group: GroupCommit[Result, bool] = GroupCommit(
            self._commit,
            size_of=_size,
            max_batch=500,
            max_waiting_bytes=256 * 1024 * 1024,
            # Two would share the locks on their lanes' rows, and wait for each other to move a hold.
            committers=1,
        )

    def start(self, worker_id: UUID) -> None:
        """Start recording in this worker's name."""
        self._worker_id = worker_id
        self._group.start()

    async def stop(self) -> None:
        """Stop recording; what is not written by now will be sent again by another owner."""
        await self._group.stop()

    def record(self, result: Result, recorded: Callable[[bool | Exception], None]) -> None:
        """Have the result written, and `recorded` told whether it was; False when the lane has another owner.

        Raises UnavailableError when too much waits already, and tells it when the database cannot be reached.
        """
        self._group.put(result, recorded)

    async def _commit(self, batch: list[Result]) -> Sequence[bool | Exception]:
        started = time.perf_counter()
        try:
            async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                owned = await self._owned(connection, batch)
                mine = [result for result in batch if result.lane in owned]
                disabled = await self._write(connection, mine, owned) if mine else []
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        for lane in disabled:
            # The notice comes too; until it does, more would be sent.
            lane.destination = replace(lane.destination, status=SubscriptionStatus.DISABLED)
        metrics.RECORD_S.observe(time.perf_counter() - started)
        return [result.lane in owned for result in batch]

    async def _owned(self, connection: Connection, batch: list[Result]) -> dict[Lane, int]:
        """Those of the lanes in the batch that are still ours, in the epoch that the results were made in.

        With each, how many of its deliveries in a row used up their retries before.
        """
        lanes = sorted({r.lane for r in batch}, key=lambda lane: (lane.destination.tenant_id, lane.subscription_id))
        rows = await connection.fetch(
            _OWNED,
            [lane.destination.tenant_id for lane in lanes],
            [lane.subscription_id for lane in lanes],
            [lane.epoch for lane in lanes],
            self._worker_id,
        )
        ours = {(row["subscription_id"], row["epoch"]): row["failed_in_row"] for row in rows}
        return {
            lane: ours[lane.subscription_id, lane.epoch] for lane in lanes if (lane.subscription_id, lane.epoch) in ours
        }

    async def _write(
        self, connection: Connection, results: list[Result], failed_before: Mapping[Lane, int]
    ) -> list[Lane]:
        """Write everything; the lanes whose subscriptions are disabled by it."""
        attempts = [r.attempt for r in results]
        outcomes = [None if attempt is None else attempt.outcome for attempt in attempts]
        columns = (
            [r.lane.destination.tenant_id for r in results],
            [r.pending.id for r in results],
            [r.status for r in results],
            [r.attempt_count for r in results],
            _sparse([r.due_at for r in results]),
            [r.finished_at for r in results],
            _sparse([r.error for r in results]),
            [a and a.started_at for a in attempts],
            [a and a.url for a in attempts],
            [a and _json(a.request_headers) for a in attempts],
            _sparse([a and a.request_body for a in attempts]),
            [o and o.status_code for o in outcomes],
            [o and o.duration_ms for o in outcomes],
            [o and _json(o.headers) for o in outcomes],
            [o and o.body for o in outcomes],
            [o and o.truncated for o in outcomes],
            [o and o.remote_address for o in outcomes],
            self._worker_id,
        )
        moved_ids = await connection.fetchval(_RECORD, *columns, len(results))
        new = results
        if moved_ids is not None:
            await connection.execute(_KEEP_ATTEMPTS, *columns)
            # A batch whose commit was answered by a broken connection comes again, and must not count twice.
            moved = set(moved_ids)
            new = [result for result in results if result.pending.id in moved]
        await self._write_lanes(connection, [r for r in new if r.hold_until is not None or r.breaker_changed])
        await self._announce(connection, new)
        return await self._count_failures(connection, new, failed_before)

    @staticmethod
    async def _write_lanes(connection: Connection, results: list[Result]) -> None:
        """Keep what the lanes' next owners, and people, should know of them."""
        for result in results:
            await connection.execute(
                _UPDATE_LANE,
                result.lane.destination.tenant_id,
                result.lane.subscription_id,
                result.hold_until,
                result.breaker_changed,
                None if result.breaker is None else msgspec.json.encode(result.breaker).decode(),
            )

    async def _count_failures(
        self, connection: Connection, results: list[Result], failed_before: Mapping[Lane, int]
    ) -> list[Lane]:
        """Count deliveries that used up their retries in a row, and disable where it is too many."""
        counted: dict[Lane, list[Result]] = defaultdict(list)
        for result in results:
            if result.counts_as is not None or result.disables is not None:
                counted[result.lane].append(result)
        # A subscription is locked only where its count may change: hardly ever, where all goes well.
        by_lane = {
            lane.subscription_id: ended
            for lane, ended in counted.items()
            if failed_before[lane] or any(not result.counts_as for result in ended)
        }
        disabled: list[Lane] = []
        if not by_lane:
            return disabled
        rows = await connection.fetch(
            _FAILED_IN_ROW, [ended[0].lane.destination.tenant_id for ended in by_lane.values()], list(by_lane)
        )
        for row in rows:
            ended = by_lane[row["id"]]
            count = before = row["failed_in_row"]
            for result in ended:
                if result.counts_as is not None:
                    count = 0 if result.counts_as else count + 1
            if count != before:
                await connection.execute(_SET_FAILED_IN_ROW, row["tenant_id"], row["id"], count)
            reason = next((result.disables for result in ended if result.disables), None)
            if reason is None and count >= self._disable_after_failed:
                reason = f"{count} deliveries in a row used up their retries."
            if reason is not None and row["status"] != "disabled":
                await self._disable(connection, ended[-1], reason)
                disabled.append(ended[-1].lane)
        return disabled

    @staticmethod
    async def _disable(connection: Connection, result: Result, reason: str) -> None:
        tenant_id, subscription_id = result.lane.destination.tenant_id, result.lane.subscription_id
        await connection.execute(_DISABLE, tenant_id, subscription_id, reason)
        shown = format_id(IdKind.SUBSCRIPTION, subscription_id)
        change = {"status": "disabled", "status_reason": reason}
        await connection.execute(
            _AUDIT_DISABLED,
            tenant_id,
            new_uuid(),
            shown,
            msgspec.json.encode(change).decode(),
            result.pending.correlation_id,
        )
        data = {"subscription_id": shown, "url": result.lane.destination.url, "reason": reason}
        await _insert_outbox(connection, [(tenant_id, "subscription.disabled", data, result.pending.correlation_id)])

    @staticmethod
    async def _announce(connection: Connection, results: list[Result]) -> None:
        entries = [
            (r.lane.destination.tenant_id, event_type, data, r.pending.correlation_id)
            for r in results
            for event_type, data in r.announcements
        ]
        if entries:
            await _insert_outbox(connection, entries)


async def _insert_outbox(connection: Connection, entries: list[tuple[UUID, str, dict[str, Any], str]]) -> None:
    await connection.execute(
        _INSERT_OUTBOX,
        [tenant_id for tenant_id, _, _, _ in entries],
        [new_uuid() for _ in entries],
        [event_type for _, event_type, _, _ in entries],
        [msgspec.json.encode(data).decode() for _, _, data, _ in entries],
        [correlation_id for _, _, _, correlation_id in entries],
    )
    for tenant_id, event_type, data, correlation_id in entries:
        await alarm(connection, tenant_id=tenant_id, event_type=event_type, told=data, correlation_id=correlation_id)


def _sparse(column: Sequence[object]) -> Sequence[object]:
    """A column of `unnest`, which takes what is missing at the end for NULL: none of it is sent when it is all NULL."""
    return column if any(value is not None for value in column) else []


def _json(headers: HeaderPairs | dict[str, str] | None) -> str | None:
    return None if headers is None else msgspec.json.encode(dict(headers)).decode()


def _size(result: Result) -> int:
    attempt = result.attempt
    return 500 + (len(attempt.outcome.body or b"") + len(attempt.request_body or b"") if attempt else 0)


# FOR SHARE: a claim of the lane waits until this transaction is over, or this one sees its epoch.
# And how what follows is planned, which costs no round trip here.
_OWNED = f"""
WITH planned AS MATERIALIZED ({BY_KEYS})
SELECT l.subscription_id, l.epoch, s.failed_in_row
  FROM (SELECT count(*) FROM planned) AS p
 CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS u (tenant_id, subscription_id, epoch)
  JOIN lanes l ON l.tenant_id = u.tenant_id AND l.subscription_id = u.subscription_id
  JOIN subscriptions s ON s.tenant_id = l.tenant_id AND s.id = l.subscription_id
 WHERE l.owner = $4 AND l.epoch = u.epoch
   FOR SHARE OF l
"""

_RESULTS = """
unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[], $7::text[],
       $8::timestamptz[], $9::text[], $10::text[], $11::bytea[], $12::int[], $13::float8[], $14::text[],
       $15::bytea[], $16::bool[], $17::text[])
    AS u (tenant_id, id, status, attempt_count, due_at, finished_at, error, started_at, url, request_headers,
          request_body, status_code, duration_ms, response_headers, response_body, truncated, remote_address)
"""

_INSERT_ATTEMPTS = """
INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, url, request_headers, request_body,
                      status_code, error, response_headers, response_body, response_truncated, remote_address,
                      worker_id)
SELECT tenant_id, id, attempt_count, started_at, duration_ms, url, request_headers::jsonb, request_body, status_code,
       error, response_headers::jsonb, response_body, truncated, remote_address, $18
"""

# `due_at` stays as it is unless the result moves it: in an ordered lane it keeps the delivery's place.
# The status is compared as text, so that the index of what is pending cannot serve: it would be read whole.
# When the answer to a commit was lost, all of it is written again: only what moves a delivery on is written, which an
# attempt that is stored already does not. So no attempt can be there twice, and none need be looked for.
# The answer is the ids of those whose state has moved, or NULL where all have, as they nearly always do.
_RECORD = f"""
WITH moved AS (
  UPDATE deliveries d
     SET status = u.status::delivery_status, attempt_count = u.attempt_count, due_at = coalesce(u.due_at, d.due_at),
         finished_at = u.finished_at, last_status_code = coalesce(u.status_code, d.last_status_code), error = u.error
    FROM {_RESULTS}
   WHERE d.tenant_id = u.tenant_id AND d.id = u.id AND d.status::text = 'pending'
     AND (d.attempt_count < u.attempt_count OR (u.started_at IS NULL AND u.status <> 'pending'))
  RETURNING u.*
), kept AS (
  {_INSERT_ATTEMPTS}
    FROM moved
   WHERE started_at IS NOT NULL
)
SELECT CASE WHEN count(*) < $19 THEN coalesce(array_agg(id), '{{}}') END FROM moved
"""

# For a delivery that came to its end otherwise while it was being sent: the attempt was made all the same.
_KEEP_ATTEMPTS = f"""
{_INSERT_ATTEMPTS}
  FROM {_RESULTS}
 WHERE started_at IS NOT NULL
   AND EXISTS (SELECT FROM deliveries d WHERE d.tenant_id = u.tenant_id AND d.id = u.id)
ON CONFLICT (tenant_id, delivery_id, number) DO NOTHING
"""

_UPDATE_LANE = """
UPDATE lanes SET hold_until = coalesce($3, hold_until), breaker = CASE WHEN $4 THEN $5::jsonb ELSE breaker END
 WHERE tenant_id = $1 AND subscription_id = $2
"""

# Locked, so that somebody who enables the subscription meanwhile is not overruled by an old count.
_FAILED_IN_ROW = """
SELECT s.tenant_id, s.id, s.failed_in_row, s.status
  FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i) JOIN subscriptions s ON s.tenant_id = u.t AND s.id = u.i
 ORDER BY s.tenant_id, s.id
   FOR NO KEY UPDATE OF s
"""

_SET_FAILED_IN_ROW = """
UPDATE subscriptions SET failed_in_row = $3 WHERE tenant_id = $1 AND id = $2
"""

_DISABLE = """
UPDATE subscriptions SET status = 'disabled', status_reason = $3, updated_at = now() WHERE tenant_id = $1 AND id = $2
"""

_AUDIT_DISABLED = """
INSERT INTO audit_log (tenant_id, id, actor_kind, actor_id, action, entity_kind, entity_id, new, correlation_id)
VALUES ($1, $2, 'system', 'deliveries', 'subscription.disable', 'subscription', $3, $4::jsonb, $5)
"""

_INSERT_OUTBOX = """
INSERT INTO outbox (tenant_id, id, type, data, correlation_id)
SELECT t, i, y, d::jsonb, c FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[]) AS u (t, i, y, d, c)
"""
