"""What endpoints received: looking it up, and trying again what died."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor, record
from crossdock.features.inbound.errors import ReceiptNotDeadError, ReceiptNotFoundError
from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.queue import process_job
from crossdock.features.inbound.repository import ENDPOINT_KIND, EndpointRepository
from crossdock.features.inbound.schemas import ReceiptDetail, ReceiptOut
from crossdock.features.inbound.service import found
from crossdock.http.pagination import PageRequest
from crossdock.jobs.queue import enqueue_in_session
from crossdock.kit.ids import IdKind, format_id

_RECEIPT_KIND = "webhook_receipt"
# Of one request; who has more asks again.
_MOST_REVIVED = 10_000


class ReceiptService:
    """Keeps receipts."""

    async def list(
        self, session: AsyncSession, page: PageRequest, *, endpoint_id: UUID, status: ReceiptStatus | None = None
    ) -> Sequence[ReceiptOut]:
        """A page of an endpoint's receipts, newest first, and one more if another page follows."""
        repository = EndpointRepository(session)
        await found(repository, endpoint_id)
        rows = await repository.receipts(page, endpoint_id=endpoint_id, status=status)
        return [ReceiptOut.of(receipt, size_bytes) for receipt, size_bytes in rows]

    async def read(self, session: AsyncSession, receipt_id: UUID) -> ReceiptDetail:
        """One receipt with its body; raises ReceiptNotFoundError."""
        receipt = await EndpointRepository(session).receipt(receipt_id)
        if receipt is None:
            raise ReceiptNotFoundError
        return ReceiptDetail.whole(receipt)

    async def retry(self, session: AsyncSession, actor: Actor, receipt_id: UUID) -> ReceiptDetail:
        """Process a dead receipt again; raises ReceiptNotFoundError or ReceiptNotDeadError."""
        receipt = await EndpointRepository(session).receipt(receipt_id, for_update=True)
        if receipt is None:
            raise ReceiptNotFoundError
        if receipt.status is not ReceiptStatus.DEAD:
            raise ReceiptNotDeadError
        record(
            session,
            tenant_id=receipt.tenant_id,
            actor=actor,
            action="webhook_receipt.retry",
            entity_kind=_RECEIPT_KIND,
            entity_id=format_id(IdKind.RECEIPT, receipt_id),
            old={"status": receipt.status, "error": receipt.error},
            new={"status": ReceiptStatus.RECEIVED},
        )
        receipt.status = ReceiptStatus.RECEIVED
        receipt.error = None
        receipt.try_count = 0
        receipt.processed_at = None
        await session.flush()
        await enqueue_in_session(session, [process_job(receipt.tenant_id, receipt_id)])
        return ReceiptDetail.whole(receipt)

    async def retry_dead(self, session: AsyncSession, actor: Actor, tenant_id: UUID, endpoint_id: UUID) -> int:
        """Process an endpoint's dead receipts again, the oldest 10,000; how many. Raises EndpointNotFoundError."""
        repository = EndpointRepository(session)
        await found(repository, endpoint_id)
        revived = await repository.revive_dead(endpoint_id=endpoint_id, limit=_MOST_REVIVED)
        await enqueue_in_session(session, [process_job(tenant_id, receipt_id) for receipt_id in revived])
        record(
            session,
            tenant_id=tenant_id,
            actor=actor,
            action="webhook_endpoint.retry_dead",
            entity_kind=ENDPOINT_KIND,
            entity_id=format_id(IdKind.ENDPOINT, endpoint_id),
            new={"retried": len(revived)},
        )
        return len(revived)
