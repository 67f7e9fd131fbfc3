"""Storing verified webhooks: many in one transaction, each with its task and its event's id."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog

from crossdock.db.engine import CONNECTION_LOST, Connection, Database, Role
from crossdock.db.group_commit import GroupCommit
from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.queue import process_job
from crossdock.jobs.queue import enqueue
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError

# Senders repeat for days, some for weeks; a day's partition of receipts is gone after the retention.
SEEN_LIFE = timedelta(days=35)
_ROW_OVERHEAD_BYTES = 1_000

_SeenKey = tuple[UUID, UUID, str]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    """A verified webhook; `headers` are in the order received. A held one waits for its endpoint to be resumed."""

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

    @property
    def seen_key(self) -> _SeenKey | None:
        """What tells that this event came before; None when the sender gave it no id."""
        return None if self.external_id is None else (self.tenant_id, self.endpoint_id, self.external_id)


class Intake:
    """Stores receipts; `take_in` returns once they are durable."""

    def __init__(self, *, database: Database, clock: Clock, seen_life: timedelta = SEEN_LIFE) -> None:
        self._database = database
        self._clock = clock
        self._seen_life = seen_life
        self._group: GroupCommit[NewReceipt, bool] = GroupCommit(self._commit, size_of=_size)

    def start(self) -> None:
        """Start storing."""
        self._group.start()

    async def stop(self) -> None:
        """Stop storing; what is not committed by now is refused."""
        await self._group.stop()

    async def take_in(self, receipt: NewReceipt) -> bool:
        """Store a receipt, unless its endpoint has had this event before; whether it was new.

        Raises UnavailableError when the database cannot be reached: nothing is stored then.
        """
        return await self._group.submit(receipt)

    async def _commit(self, batch: list[NewReceipt]) -> Sequence[bool | Exception]:
        try:
            async with self._database.pool(Role.INGEST).acquire() as connection, connection.transaction():
                fresh = await self._claim(connection, batch)
                await self._insert(connection, [receipt for receipt in batch if receipt.id in fresh])
        except CONNECTION_LOST as error:
            _log.warning("intake_database_lost", error=repr(error))
            raise UnavailableError from error
        return [receipt.id in fresh for receipt in batch]

    async def _claim(self, connection: Connection, batch: list[NewReceipt]) -> set[UUID]:
        """Which of the receipts are the first of their event; those without an event's id always are."""
        fresh = {receipt.id for receipt in batch if receipt.seen_key is None}
        first: dict[_SeenKey, UUID] = {}
        for receipt in batch:
            if receipt.seen_key is not None:
                first.setdefault(receipt.seen_key, receipt.id)
        if not first:
            return fresh
        # In one order in every transaction, so that two of them cannot wait for each other.
        keys = sorted(first)
        now = self._clock.now()
        won = await connection.fetch(
            _CLAIM,
            [tenant_id for tenant_id, _, _ in keys],
            [endpoint_id for _, endpoint_id, _ in keys],
            [external_id for _, _, external_id in keys],
            [first[key] for key in keys],
            now + self._seen_life,
            now,
        )
        return fresh | {row["receipt_id"] for row in won}

    async def _insert(self, connection: Connection, receipts: list[NewReceipt]) -> None:
        if not receipts:
            return
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
        )
        await enqueue(
            connection, [process_job(receipt.tenant_id, receipt.id) for receipt in receipts if not receipt.held]
        )


def _size(receipt: NewReceipt) -> int:
    return len(receipt.body) + _ROW_OVERHEAD_BYTES


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
                      source_address, correlation_id, status)
SELECT t, i, e, x, y, m, u, h::jsonb, c, b, a, r, s::receipt_status
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::bytea[], $11::text[], $12::text[], $13::text[])
       AS v (t, i, e, x, y, m, u, h, c, b, a, r, s)
"""
