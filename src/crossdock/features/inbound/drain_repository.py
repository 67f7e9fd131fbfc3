"""The receipts of one ordered endpoint, in order, as the worker's role."""

from collections.abc import Sequence
from uuid import UUID

from crossdock.db.engine import Database, Role
from crossdock.features.inbound.due_receipts import COLUMNS, ENDPOINT_OF_R, DueReceipt, due_receipt_of
from crossdock.features.inbound.queue import begin_drain, drain_job, enqueue_work, process_job, process_key
from crossdock.features.inbound.worker_repository import RELEASE
from crossdock.jobs.queue import without_job

# What is read at once stays in memory until it is done.
_MOST_BYTES = 8 * 1024 * 1024
_HANDED_OUT_AT_ONCE = 1_000


class DrainRepository:
    """An ordered endpoint's receipts, and its job."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def begin(self, endpoint_id: UUID) -> None:
        """Let what arrives from now on queue the next job; all that arrived before can be seen."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            await begin_drain(connection, endpoint_id)

    async def go_on(self, tenant_id: UUID, endpoint_id: UUID, *, in_s: float) -> None:
        """Queue the next job; at once when `in_s` is 0, even where one waits that is due later."""
        if not in_s:
            await self.hasten(tenant_id, endpoint_id)
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            await enqueue_work(connection, [drain_job(tenant_id, endpoint_id, delay_s=in_s)])

    async def hasten(self, tenant_id: UUID, endpoint_id: UUID) -> None:
        """Have a job that is due later run now."""
        job = drain_job(tenant_id, endpoint_id)
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            # Only a job that is added rings.
            if await connection.fetchval(_REMOVE_LATER, job.key):
                await enqueue_work(connection, [job])

    async def next_receipts(self, tenant_id: UUID, endpoint_id: UUID, *, limit: int) -> Sequence[DueReceipt]:
        """The endpoint's first receipts in order; what it held first, if it is active again."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            # Of these at least as many as are asked for, so that none is read before an older one that is held.
            await connection.fetch(RELEASE, tenant_id, endpoint_id, limit)
            rows = await connection.fetch(_NEXT, tenant_id, endpoint_id, limit, _MOST_BYTES)
        return [due_receipt_of(row) for row in rows]

    async def mark_begun(self, tenant_id: UUID, receipt_id: UUID) -> None:
        """Remember that a row of receipts was begun with this one, in case it never comes to its end."""
        await self._database.pool(Role.WORKER).execute(_MARK_BEGUN, tenant_id, receipt_id)

    async def hand_out(self, tenant_id: UUID, endpoint_id: UUID) -> None:
        """Give each receipt a job of its own: the endpoint is not ordered any more, or is gone."""
        handed_out = _HANDED_OUT_AT_ONCE
        while handed_out == _HANDED_OUT_AT_ONCE:
            async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                rows = await connection.fetch(_WITHOUT_JOB, tenant_id, endpoint_id, _HANDED_OUT_AT_ONCE)
                handed_out = await enqueue_work(connection, [process_job(tenant_id, row["id"]) for row in rows])


_REMOVE_LATER = """
DELETE FROM pgqueuer WHERE dedupe_key = $1 AND status = 'queued' AND execute_after > now() RETURNING true
"""

_NEXT = f"""
WITH first AS (
  SELECT w.id FROM (
    SELECT f.id, sum(f.size) OVER (ORDER BY f.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM (SELECT r.id, octet_length(r.body) AS size FROM receipts r
             WHERE r.status = 'received' AND r.tenant_id = $1 AND r.endpoint_id = $2
             ORDER BY r.id LIMIT $3) AS f) AS w
   WHERE coalesce(w.before, 0) < $4)
SELECT {COLUMNS}
  FROM receipts r
  {ENDPOINT_OF_R}
 WHERE r.tenant_id = $1 AND r.id IN (SELECT id FROM first)
 ORDER BY r.id
"""

_MARK_BEGUN = "UPDATE receipts SET retry_at = now() WHERE tenant_id = $1 AND id = $2 AND status = 'received'"

_WITHOUT_JOB = f"""
SELECT r.id FROM receipts r
 WHERE r.status = 'received' AND r.tenant_id = $1 AND r.endpoint_id = $2 AND {without_job(process_key("r.id"))}
 ORDER BY r.id LIMIT $3
"""
