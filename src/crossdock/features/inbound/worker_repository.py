"""Reading and finishing receipts of all tenants, many at a time, as the worker's role."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.db.group_commit import GroupCommit
from crossdock.features.inbound.due_receipts import COLUMNS, ENDPOINT_OF_R, DueReceipt, due_receipt_of
from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.new_receipts import NewReceipt, write_receipts
from crossdock.features.inbound.queue import drain_job, enqueue_work, process_job, process_key, without_drain
from crossdock.jobs.queue import NewJob, without_job
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid, uuid_floor

_ROW_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a receipt ended; `announcement` is what a built-in event of this name tells of it."""

    tenant_id: UUID
    receipt_id: UUID
    status: ReceiptStatus
    try_count: int
    correlation_id: str | None = None
    event_id: UUID | None = None
    error: str | None = None
    announce_as: str | None = None
    announcement: dict[str, Any] | None = None


class WorkerRepository:
    """Receipts as the worker's tasks ask for them; concurrent questions share a statement."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._reads: GroupCommit[tuple[UUID, UUID], DueReceipt | None] = GroupCommit(
            self._read, size_of=lambda _key: _ROW_BYTES, max_batch=100
        )
        self._ends: GroupCommit[Outcome, bool] = GroupCommit(self.end_all, size_of=lambda _outcome: _ROW_BYTES)

    def start(self) -> None:
        """Start answering."""
        self._reads.start()
        self._ends.start()

    async def stop(self) -> None:
        """Stop answering."""
        await self._reads.stop()
        await self._ends.stop()

    async def due_receipt(self, tenant_id: UUID, receipt_id: UUID) -> DueReceipt | None:
        """The receipt, if it waits to be processed."""
        return await self._reads.submit((tenant_id, receipt_id))

    async def end(self, outcome: Outcome) -> bool:
        """Record how a receipt ended, and announce it; False, and nothing done, when it had ended before."""
        return await self._ends.submit(outcome)

    async def end_all(self, outcomes: Sequence[Outcome]) -> Sequence[bool]:
        """The same for several in one statement."""
        try:
            rows = await self._database.pool(Role.WORKER).fetch(
                _END,
                [outcome.tenant_id for outcome in outcomes],
                [outcome.receipt_id for outcome in outcomes],
                [outcome.status.value for outcome in outcomes],
                [outcome.try_count for outcome in outcomes],
                [outcome.event_id for outcome in outcomes],
                [outcome.error for outcome in outcomes],
                [outcome.announce_as for outcome in outcomes],
                [msgspec.json.encode(outcome.announcement).decode() for outcome in outcomes],
                [outcome.correlation_id for outcome in outcomes],
                [new_uuid() for _ in outcomes],
            )
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        ended = {row["id"] for row in rows}
        return [outcome.receipt_id in ended for outcome in outcomes]

    async def split(self, receipt: DueReceipt, parts: Sequence[NewReceipt], *, try_count: int, now: datetime) -> bool:
        """Put a receipt's parts, as far as they are new, in its place; False, and nothing done, when it had ended.

        Raises UnavailableError when the database cannot be reached.
        """
        try:
            async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                is_mine = await connection.fetchval(_SPLIT, receipt.tenant_id, receipt.id, try_count)
                if is_mine:
                    await write_receipts(connection, parts, now=now)
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        return bool(is_mine)

    async def note_failure(
        self, tenant_id: UUID, receipt_id: UUID, *, try_count: int, error: str, retry_in_s: float | None = None
    ) -> None:
        """Show on a receipt what went wrong so far; on an ordered endpoint, nothing behind it goes on till then."""
        delay = None if retry_in_s is None else timedelta(seconds=retry_in_s)
        await self._database.pool(Role.WORKER).execute(_NOTE_FAILURE, tenant_id, receipt_id, try_count, error, delay)

    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        """Add jobs for receipts."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            await enqueue_work(connection, jobs)

    async def release_held(self, tenant_id: UUID, endpoint_id: UUID, *, limit: int) -> int:
        """Enqueue an active endpoint's oldest held receipts; how many. An ordered one's own job takes them in turn."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            if await connection.fetchval(_IS_ORDERED, tenant_id, endpoint_id):
                await enqueue_work(connection, [drain_job(tenant_id, endpoint_id)])
                return 0
            rows = await connection.fetch(RELEASE, tenant_id, endpoint_id, limit)
            await enqueue_work(connection, [process_job(tenant_id, row["id"]) for row in rows])
        return len(rows)

    async def recover_stranded(self, *, received_before: datetime, limit: int) -> int:
        """Add the jobs that are missing, which should not happen, for receipts that wait; how many."""
        before = uuid_floor(received_before)
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            rows = await connection.fetch(_STRANDED, before, limit)
            jobs = [process_job(row["tenant_id"], row["id"]) for row in rows]
            rows = await connection.fetch(_STRANDED_ENDPOINTS, before, limit)
            jobs += [drain_job(row["tenant_id"], row["id"]) for row in rows]
            return await enqueue_work(connection, jobs)

    async def endpoints_holding_after_resume(self, *, resumed_after: datetime) -> Sequence[tuple[UUID, UUID]]:
        """Active endpoints, changed since then, with held receipts: a process had not heard yet, and held on."""
        rows = await self._database.pool(Role.WORKER).fetch(_HOLDING, resumed_after)
        return [(row["tenant_id"], row["id"]) for row in rows]

    async def remove_expired_secrets(self, *, expired_before: datetime) -> None:
        """Delete secrets that were rotated out, and ended before then."""
        await self._database.pool(Role.WORKER).execute(
            "DELETE FROM webhook_endpoint_secrets WHERE expires_at <= $1", expired_before
        )

    async def _read(self, keys: list[tuple[UUID, UUID]]) -> Sequence[DueReceipt | None]:
        try:
            rows = await self._database.pool(Role.WORKER).fetch(
                _DUE, [tenant_id for tenant_id, _ in keys], [receipt_id for _, receipt_id in keys]
            )
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        found = {(row["tenant_id"], row["id"]): due_receipt_of(row) for row in rows}
        return [found.get(key) for key in keys]


_DUE = f"""
SELECT {COLUMNS}
  FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i)
  JOIN receipts r ON r.tenant_id = u.t AND r.id = u.i AND r.status = 'received'
  {ENDPOINT_OF_R}
"""

# The announcement needs no id that tells repetitions: what has ended is found by no second update.
_END = """
WITH ended AS (
  UPDATE receipts r
     SET status = u.s::receipt_status, try_count = u.n, event_id = u.e, error = u.x, processed_at = now()
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::uuid[]) AS u (t, i, s, n, e, x, a, d, c, o)
   WHERE r.tenant_id = u.t AND r.id = u.i AND r.status = 'received'
  RETURNING r.tenant_id, r.id, u.a, u.d, u.c, u.o
), announced AS (
  INSERT INTO outbox (tenant_id, id, type, data, correlation_id)
  SELECT tenant_id, o, a, d::jsonb, c FROM ended WHERE a IS NOT NULL
)
SELECT id FROM ended
"""

_SPLIT = """
UPDATE receipts SET status = 'split', try_count = $3, error = NULL, processed_at = now()
 WHERE tenant_id = $1 AND id = $2 AND status = 'received'
RETURNING true
"""

_NOTE_FAILURE = """
UPDATE receipts SET try_count = $3, error = $4, retry_at = now() + $5::interval
 WHERE tenant_id = $1 AND id = $2 AND status = 'received'
"""

_IS_ORDERED = "SELECT ordered FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2"

RELEASE = """
UPDATE receipts SET status = 'received'
 WHERE tenant_id = $1 AND id IN (
       SELECT r.id FROM receipts r
         JOIN webhook_endpoints e ON e.tenant_id = r.tenant_id AND e.id = r.endpoint_id AND e.status = 'active'
        WHERE r.status = 'held' AND r.tenant_id = $1 AND r.endpoint_id = $2
        ORDER BY r.id LIMIT $3 FOR UPDATE OF r SKIP LOCKED)
RETURNING id
"""

_STRANDED = f"""
SELECT r.tenant_id, r.id FROM receipts r {ENDPOINT_OF_R}
 WHERE r.status = 'received' AND r.id < $1 AND e.ordered IS NOT TRUE AND {without_job(process_key("r.id"))}
 LIMIT $2
"""

_STRANDED_ENDPOINTS = f"""
SELECT e.tenant_id, e.id FROM webhook_endpoints e
 WHERE e.ordered AND {without_drain("e.tenant_id", "e.id")}
   AND EXISTS (SELECT FROM receipts r WHERE r.status = 'received' AND r.tenant_id = e.tenant_id
                                        AND r.endpoint_id = e.id AND r.id < $1)
 LIMIT $2
"""

_HOLDING = """
SELECT e.tenant_id, e.id FROM webhook_endpoints e
 WHERE e.status = 'active' AND e.updated_at > $1
   AND EXISTS (SELECT FROM receipts r WHERE r.status = 'held' AND r.tenant_id = e.tenant_id AND r.endpoint_id = e.id)
"""
