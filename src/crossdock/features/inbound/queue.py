"""The background jobs of inbound webhooks, as they stand in the queue."""

from uuid import UUID

from crossdock.jobs.queue import NewJob

PROCESS = "inbound.process"
RELEASE = "inbound.release"

_UUID_BYTES = 16


def process_job(tenant_id: UUID, receipt_id: UUID) -> NewJob:
    """Process a receipt."""
    return _job(PROCESS, tenant_id, receipt_id)


def release_job(tenant_id: UUID, endpoint_id: UUID) -> NewJob:
    """Process what an endpoint held while it was paused."""
    return _job(RELEASE, tenant_id, endpoint_id)


def process_key(receipt_id: str) -> str:
    """The key of a receipt's job, as an SQL expression on the expression for its id."""
    return f"'{PROCESS}:' || {receipt_id}::text"


def subject_of(payload: bytes) -> tuple[UUID, UUID]:
    """The tenant, and the receipt or endpoint, that a job is about."""
    return UUID(bytes=payload[:_UUID_BYTES]), UUID(bytes=payload[_UUID_BYTES:])


def _job(task: str, tenant_id: UUID, entity_id: UUID) -> NewJob:
    return NewJob(task=task, payload=tenant_id.bytes + entity_id.bytes, key=f"{task}:{entity_id}")
