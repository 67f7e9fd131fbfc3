"""What endpoints received: looking it up, and trying again what died."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor, record
from crossdock.features.inbound.bodies import Bodies
from crossdock.features.inbound.downloads import Download, Downloads
from crossdock.features.inbound.errors import ReceiptNotDeadError, ReceiptNotFoundError
from crossdock.features.inbound.models import Receipt, ReceiptStatus
from crossdock.features.inbound.queue import enqueue_work_in_session, job_for
from crossdock.features.inbound.repository import ENDPOINT_KIND, DeadReceipts, EndpointRepository
from crossdock.features.inbound.schemas import ReceiptDetail, ReceiptOut, RetryIn
from crossdock.features.inbound.service import found
from crossdock.http.pagination import PageRequest
from crossdock.kit.ids import IdKind, format_id, parse_id

_RECEIPT_KIND = "webhook_receipt"
# Of one request; who has more asks again.
_MOST_REVIVED = 10_000


class ReceiptService:
    """Keeps receipts."""

    def __init__(self, *, bodies: Bodies) -> None:
        self._downloads = Downloads(bodies=bodies)

    async def list(
        self,
        session: AsyncSession,
        page: PageRequest,
        *,
        endpoint_id: UUID,
        status: ReceiptStatus | None = None,
        parent_id: UUID | None = None,
    ) -> Sequence[ReceiptOut]:
        """A page of an endpoint's receipts, newest first, and one more if another page follows.

        With `parent_id`, those of the events that this webhook brought.
        """
        repository = EndpointRepository(session)
        await found(repository, endpoint_id)
        rows = await repository.receipts(page, endpoint_id=endpoint_id, status=status, parent_id=parent_id)
        return [ReceiptOut.of(receipt, size_bytes) for receipt, size_bytes in rows]

    async def read(self, session: AsyncSession, receipt_id: UUID) -> ReceiptDetail:
        """One receipt, with its body unless that is in the file store; raises ReceiptNotFoundError."""
        return ReceiptDetail.whole(await _found(session, receipt_id))

    async def body(self, session: AsyncSession, receipt_id: UUID) -> Download:
        """One receipt's body, byte for byte, to be read after the transaction as well.

        Raises ReceiptNotFoundError, StoredFileNotFoundError or FileStoreError.
        """
        return await self._downloads.body(await _found(session, receipt_id))

    async def file(self, session: AsyncSession, receipt_id: UUID, index: int) -> Download:
        """One of the files that a webhook brought; raises FileNotInBodyError, and as `body` does."""
        return await self._downloads.file(await _found(session, receipt_id), index)

    async def retry(self, session: AsyncSession, actor: Actor, receipt_id: UUID) -> ReceiptDetail:
        """Process a dead receipt again; raises ReceiptNotFoundError or ReceiptNotDeadError."""
        repository = EndpointRepository(session)
        receipt = await repository.receipt(receipt_id, for_update=True)
        if receipt is None:
            raise ReceiptNotFoundError
        if receipt.status is not ReceiptStatus.DEAD:
            raise ReceiptNotDeadError
        record(
            session,
            tenant_id=receipt.tenant_id,
            actor=actor,
            action="webhook_receipt.retried",
            entity_kind=_RECEIPT_KIND,
            entity_id=format_id(IdKind.RECEIPT, receipt_id),
            old={"status": receipt.status, "error": receipt.error},
            new={"status": ReceiptStatus.RECEIVED},
        )
        receipt.status = ReceiptStatus.RECEIVED
        receipt.error = None
        receipt.try_count = 0
        receipt.retry_at = None
        receipt.processed_at = None
        endpoint = await repository.endpoint(receipt.endpoint_id)
        ordered = endpoint is not None and endpoint.ordered
        job = job_for(receipt.tenant_id, receipt.endpoint_id, receipt_id, ordered=ordered)
        await enqueue_work_in_session(session, [job])
        return ReceiptDetail.whole(receipt)

    async def retry_dead(
        self, session: AsyncSession, actor: Actor, tenant_id: UUID, endpoint_id: UUID, given: RetryIn
    ) -> int:
        """Process an endpoint's dead receipts again, the oldest 10,000 that fit; how many.

        Raises EndpointNotFoundError.
        """
        repository = EndpointRepository(session)
        endpoint = await found(repository, endpoint_id)
        wanted = DeadReceipts(since=given.since, until=given.until, error=given.error, ids=_ids(given.receipt_ids))
        revived = await repository.revive_dead(endpoint_id=endpoint_id, wanted=wanted, limit=_MOST_REVIVED)
        jobs = [job_for(tenant_id, endpoint_id, receipt_id, ordered=endpoint.ordered) for receipt_id in sorted(revived)]
        await enqueue_work_in_session(session, jobs)
        record(
            session,
            tenant_id=tenant_id,
            actor=actor,
            action="webhook_endpoint.dead_retried",
            entity_kind=ENDPOINT_KIND,
            entity_id=format_id(IdKind.ENDPOINT, endpoint_id),
            new={"retried": len(revived)} | given.model_dump(mode="json", exclude_none=True),
        )
        return len(revived)


def _ids(given: Sequence[str] | None) -> Sequence[UUID] | None:
    return None if given is None else [parse_id(IdKind.RECEIPT, text) for text in given]


async def _found(session: AsyncSession, receipt_id: UUID) -> Receipt:
    receipt = await EndpointRepository(session).receipt(receipt_id)
    if receipt is None:
        raise ReceiptNotFoundError
    return receipt
