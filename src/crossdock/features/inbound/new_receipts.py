"""Receipts on their way into the database: the claim on their events' ids, their rows, and their jobs.

For those who take webhooks in, and for those who split one that brought several events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from crossdock.db.engine import Connection
from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.queue import enqueue_work, job_for

# Senders repeat for days, some for weeks; a day's partition of receipts is gone after the retention.
SEEN_LIFE = timedelta(days=35)
# Of one webhook: what one transaction writes well within a task's time. Senders bring hundreds, or a thousand.
MOST_PARTS = 10_000
_ROW_OVERHEAD_BYTES = 1_000
_AT_ONCE = 2_000

_SeenKey = tuple[UUID, UUID, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    """A verified webhook, or one event of the one with `parent_id`; `headers` are in the order received.

    A large body is not in `body` but in the file store, `body_bytes` long, under `body_file`. A held one
    waits for its endpoint to be resumed. `ordered` says that the endpoint's are processed one after the
    other. Without `received_at` it is received now.
    """

    tenant_id: UUID
    id: UUID
    endpoint_id: UUID
    external_id: str | None
    event_type: str | None
    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    content_type: str | None
    body: bytes = field(repr=False)
    source_address: str | None
    correlation_id: str
    held: bool
    ordered: bool = False
    parent_id: UUID | None = None
    received_at: datetime | None = None
    body_file: str | None = None
    body_bytes: int | None = None

    @property
    def seen_key(self) -> _SeenKey | None:
        """What tells that this event came before; None when the sender gave it no id."""
        return None if self.external_id is None else (self.tenant_id, self.endpoint_id, self.external_id)

    @property
    def size_bytes(self) -> int:
        """About what it takes to write."""
        return len(self.body) + _ROW_OVERHEAD_BYTES


async def write_receipts(
    connection: Connection, receipts: Sequence[NewReceipt], *, now: datetime, seen_life: timedelta = SEEN_LIFE
) -> set[UUID]:
    """Store those whose event the endpoint has not had before, with their jobs, in the connection's transaction.

    Returns the ids of those stored.
    """
    fresh = await _claimed(connection, receipts, now=now, seen_life=seen_life)
    stored = [receipt for receipt in receipts if receipt.id in fresh]
    for at in range(0, len(stored), _AT_ONCE):
        await _insert(connection, stored[at : at + _AT_ONCE])
    jobs = [
        job_for(receipt.tenant_id, receipt.endpoint_id, receipt.id, ordered=receipt.ordered)
        for receipt in stored
        if not receipt.held
    ]
    await enqueue_work(connection, jobs)
    return fresh


async def _claimed(
    connection: Connection, receipts: Sequence[NewReceipt], *, now: datetime, seen_life: timedelta
) -> set[UUID]:
    """Which of the receipts are the first of their event; those without an event's id always are."""
    fresh = {receipt.id for receipt in receipts if receipt.seen_key is None}
    first: dict[_SeenKey, UUID] = {}
    for receipt in receipts:
        if receipt.seen_key is not None:
            first.setdefault(receipt.seen_key, receipt.id)
    if not first:
        return fresh
    # In one order in every transaction, so that two of them cannot wait for each other.
    keys = sorted(first)
    won = await connection.fetch(
        _CLAIM,
        [tenant_id for tenant_id, _, _ in keys],
        [endpoint_id for _, endpoint_id, _ in keys],
        [external_id for _, _, external_id in keys],
        [first[key] for key in keys],
        now + seen_life,
        now,
    )
    return fresh | {row["receipt_id"] for row in won}


async def _insert(connection: Connection, receipts: Sequence[NewReceipt]) -> None:
    await connection.execute(
        _INSERT,
        [receipt.tenant_id for receipt in receipts],
        [receipt.id for receipt in receipts],
        [receipt.endpoint_id for receipt in receipts],
        [receipt.external_id for receipt in receipts],
        [receipt.event_type for receipt in receipts],
        [receipt.method for receipt in receipts],
        [receipt.url for receipt in receipts],
        [msgspec.json.encode(receipt.headers).decode() for receipt in receipts],
        [receipt.content_type for receipt in receipts],
        [receipt.body for receipt in receipts],
        [receipt.source_address for receipt in receipts],
        [receipt.correlation_id for receipt in receipts],
        [(ReceiptStatus.HELD if receipt.held else ReceiptStatus.RECEIVED).value for receipt in receipts],
        [receipt.parent_id for receipt in receipts],
        [receipt.received_at for receipt in receipts],
        [receipt.body_file for receipt in receipts],
        [receipt.body_bytes for receipt in receipts],
    )


# An id whose life is over is taken over by the next webhook that brings it.
_CLAIM = """
INSERT INTO webhook_seen_ids AS s (tenant_id, endpoint_id, external_id, receipt_id, expires_at)
SELECT t, e, x, r, $5 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) AS u (t, e, x, r)
ON CONFLICT (tenant_id, endpoint_id, external_id) DO UPDATE
   SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
 WHERE s.expires_at <= $6
RETURNING receipt_id
"""

_INSERT = """
INSERT INTO receipts (tenant_id, id, endpoint_id, external_id, event_type, method, url, headers, content_type, body,
                      source_address, correlation_id, status, parent_id, received_at, body_file, body_bytes)
SELECT t, i, e, x, y, m, u, h::jsonb, c, b, a, r, s::receipt_status, p, coalesce(w, now()), f, l
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::uuid[], $15::timestamptz[],
              $16::text[], $17::int[])
       AS v (t, i, e, x, y, m, u, h, c, b, a, r, s, p, w, f, l)
"""
