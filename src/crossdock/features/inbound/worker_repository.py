"""Reading and finishing receipts of all tenants, many at a time, as the worker's role."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.db.group_commit import GroupCommit
from crossdock.features.inbound.models import EndpointTarget, ReceiptStatus
from crossdock.features.inbound.queue import process_job, process_key
from crossdock.jobs.queue import enqueue, without_job
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid, uuid_floor

_ROW_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DueEndpoint:
    """What processing needs of a receipt's endpoint."""

    id: UUID
    name: str
    path: str
    preset: str
    settings: Any
    event_type: str | None
    transformation: str | None
    target: EndpointTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class DueReceipt:
    """A receipt to process; `endpoint` is None when it was deleted meanwhile."""

    tenant_id: UUID
    id: UUID
    external_id: str | None
    event_type: str | None
    method: str
    url: str
    headers: list[tuple[str, str]]
    content_type: str | None
    body: bytes
    correlation_id: str
    received_at: datetime
    endpoint_id: UUID
    endpoint: DueEndpoint | None


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
        self._ends: GroupCommit[Outcome, bool] = GroupCommit(self._end, size_of=lambda _outcome: _ROW_BYTES)

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

    async def note_failure(self, tenant_id: UUID, receipt_id: UUID, *, try_count: int, error: str) -> None:
        """Show on a receipt what went wrong so far."""
        await self._database.pool(Role.WORKER).execute(_NOTE_FAILURE, tenant_id, receipt_id, try_count, error)

    async def release_held(self, tenant_id: UUID, endpoint_id: UUID, *, limit: int) -> int:
        """Enqueue an active endpoint's oldest held receipts; how many."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            rows = await connection.fetch(_RELEASE, tenant_id, endpoint_id, limit)
            await enqueue(connection, [process_job(tenant_id, row["id"]) for row in rows])
        return len(rows)

    async def recover_stranded(self, *, received_before: datetime, limit: int) -> int:
        """Enqueue receipts that wait with no job for them, which should not happen; how many."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            rows = await connection.fetch(_STRANDED, uuid_floor(received_before), limit)
            return await enqueue(connection, [process_job(row["tenant_id"], row["id"]) for row in rows])

    async def endpoints_holding_after_resume(self, *, resumed_after: datetime) -> Sequence[tuple[UUID, UUID]]:
        """Active endpoints, changed since then, with held receipts: a process had not heard yet, and held on."""
        rows = await self._database.pool(Role.WORKER).fetch(_HOLDING, resumed_after)
        return [(row["tenant_id"], row["id"]) for row in rows]

    async def remove_expired_secrets(self, *, now: datetime) -> None:
        """Delete secrets that were rotated out."""
        await self._database.pool(Role.WORKER).execute(
            "DELETE FROM webhook_endpoint_secrets WHERE expires_at <= $1", now
        )

    async def _read(self, keys: list[tuple[UUID, UUID]]) -> Sequence[DueReceipt | None]:
        try:
            rows = await self._database.pool(Role.WORKER).fetch(
                _DUE, [tenant_id for tenant_id, _ in keys], [receipt_id for _, receipt_id in keys]
            )
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        found = {(row["tenant_id"], row["id"]): _receipt(row) for row in rows}
        return [found.get(key) for key in keys]

    async def _end(self, outcomes: list[Outcome]) -> Sequence[bool]:
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


def _receipt(row: Any) -> DueReceipt:  # noqa: ANN401 - asyncpg's rows have no better type
    endpoint = None
    if row["name"] is not None:
        endpoint = DueEndpoint(
            id=row["endpoint_id"],
            name=row["name"],
            path=row["path"],
            preset=row["preset"],
            settings=None if row["scheme"] is None else msgspec.json.decode(row["scheme"]),
            event_type=row["fixed_type"],
            transformation=row["transformation"],
            target=EndpointTarget(row["target"]),
        )
    return DueReceipt(
        tenant_id=row["tenant_id"],
        id=row["id"],
        external_id=row["external_id"],
        event_type=row["event_type"],
        method=row["method"],
        url=row["url"],
        headers=[(name, value) for name, value in msgspec.json.decode(row["headers"])],
        content_type=row["content_type"],
        body=row["body"],
        correlation_id=row["correlation_id"],
        received_at=row["received_at"],
        endpoint_id=row["endpoint_id"],
        endpoint=endpoint,
    )


_DUE = """
SELECT r.tenant_id, r.id, r.endpoint_id, r.external_id, r.event_type, r.method, r.url, r.headers, r.content_type,
       r.body, r.correlation_id, r.received_at, e.name, e.path, e.preset, e.scheme, e.event_type AS fixed_type,
       e.transformation, e.target::text
  FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i)
  JOIN receipts r ON r.tenant_id = u.t AND r.id = u.i AND r.status = 'received'
  LEFT JOIN webhook_endpoints e ON e.tenant_id = r.tenant_id AND e.id = r.endpoint_id
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

_NOTE_FAILURE = """
UPDATE receipts SET try_count = $3, error = $4 WHERE tenant_id = $1 AND id = $2 AND status = 'received'
"""

_RELEASE = """
UPDATE receipts SET status = 'received'
 WHERE tenant_id = $1 AND id IN (
       SELECT r.id FROM receipts r
         JOIN webhook_endpoints e ON e.tenant_id = r.tenant_id AND e.id = r.endpoint_id AND e.status = 'active'
        WHERE r.status = 'held' AND r.tenant_id = $1 AND r.endpoint_id = $2
        ORDER BY r.id LIMIT $3 FOR UPDATE OF r SKIP LOCKED)
RETURNING id
"""

_STRANDED = f"""
SELECT tenant_id, id FROM receipts r
 WHERE r.status = 'received' AND r.id < $1 AND {without_job(process_key("r.id"))}
 LIMIT $2
"""

_HOLDING = """
SELECT e.tenant_id, e.id FROM webhook_endpoints e
 WHERE e.status = 'active' AND e.updated_at > $1
   AND EXISTS (SELECT FROM receipts r WHERE r.status = 'held' AND r.tenant_id = e.tenant_id AND r.endpoint_id = e.id)
"""
