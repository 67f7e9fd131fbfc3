"""The background jobs of inbound webhooks, as they stand in the queue.

An endpoint whose receipts are processed side by side has a job for each; an ordered one has one job,
which works them off. That one gives its key away as it starts, so that what arrives meanwhile queues
the next; and because whoever stores receipts and sees the old key must have committed before the job
looks, both sides take a lock for that moment.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection
from crossdock.jobs.queue import NewJob, connection_of, enqueue

PROCESS = "inbound.process"
DRAIN = "inbound.drain"
RELEASE = "inbound.release"

_UUID_BYTES = 16
# One statement with more would hold up those behind it.
_AT_ONCE = 2_000


def process_job(tenant_id: UUID, receipt_id: UUID) -> NewJob:
    """Process a receipt."""
    return _job(PROCESS, tenant_id, receipt_id)


def drain_job(tenant_id: UUID, endpoint_id: UUID, *, delay_s: float = 0) -> NewJob:
    """Process the receipts of an ordered endpoint, one after the other."""
    return _job(DRAIN, tenant_id, endpoint_id, delay_s=delay_s)


def release_job(tenant_id: UUID, endpoint_id: UUID) -> NewJob:
    """Process what an endpoint held while it was paused."""
    return _job(RELEASE, tenant_id, endpoint_id)


def job_for(tenant_id: UUID, endpoint_id: UUID, receipt_id: UUID, *, ordered: bool) -> NewJob:
    """The job that gets a receipt processed, by what its endpoint wants."""
    return drain_job(tenant_id, endpoint_id) if ordered else process_job(tenant_id, receipt_id)


async def enqueue_work(connection: Connection, jobs: Sequence[NewJob]) -> int:
    """Add jobs for receipts that this transaction stores or frees; returns how many were not there yet."""
    drains = {job.key: job for job in jobs if job.task == DRAIN}
    # In one order in every transaction, so that two of them cannot wait for each other.
    distinct = [drains[key] for key in sorted(drains, key=str)] + [job for job in jobs if job.task != DRAIN]
    if drains:
        await connection.execute(_SHARE_KEYS, sorted(drains, key=str))
    return sum([await enqueue(connection, distinct[at : at + _AT_ONCE]) for at in range(0, len(distinct), _AT_ONCE)])


async def enqueue_work_in_session(session: AsyncSession, jobs: Sequence[NewJob]) -> int:
    """The same in a session's transaction."""
    return await enqueue_work(await connection_of(session), jobs)


async def begin_drain(connection: Connection, endpoint_id: UUID) -> None:
    """Give the key of an ordered endpoint's running job away; in a transaction of its own."""
    key = _key(DRAIN, endpoint_id)
    await connection.execute(_OWN_KEY, key)
    await connection.execute(_FREE_KEY, key)


def process_key(receipt_id: str) -> str:
    """The key of a receipt's job, as an SQL expression on the expression for its id."""
    return f"'{PROCESS}:' || {receipt_id}::text"


def without_drain(tenant_id: str, endpoint_id: str) -> str:
    """The SQL condition that no job for an ordered endpoint waits or runs, on the expressions for its ids.

    A running one has no key any more.
    """
    return (
        f"NOT EXISTS (SELECT FROM pgqueuer WHERE entrypoint = '{DRAIN}' AND status IN ('queued', 'picked')"
        f" AND payload = uuid_send({tenant_id}) || uuid_send({endpoint_id}))"
    )


def subject_of(payload: bytes) -> tuple[UUID, UUID]:
    """The tenant, and the receipt or endpoint, that a job is about."""
    return UUID(bytes=payload[:_UUID_BYTES]), UUID(bytes=payload[_UUID_BYTES:])


def _job(task: str, tenant_id: UUID, entity_id: UUID, *, delay_s: float = 0) -> NewJob:
    return NewJob(task=task, payload=tenant_id.bytes + entity_id.bytes, key=_key(task, entity_id), delay_s=delay_s)


def _key(task: str, entity_id: UUID) -> str:
    return f"{task}:{entity_id}"


_SHARE_KEYS = "SELECT pg_advisory_xact_lock_shared(hashtextextended(k, 0)) FROM unnest($1::text[]) AS u (k)"

_OWN_KEY = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

_FREE_KEY = "UPDATE pgqueuer SET dedupe_key = NULL WHERE dedupe_key = $1 AND status = 'picked'"
