"""What became of the webhooks that called an endpoint, in numbers."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.refusal_repository import RefusalRepository
from crossdock.features.inbound.repository import EndpointRepository
from crossdock.features.inbound.schemas import EndpointStatistics, LastRefusal
from crossdock.kit.ids import IdKind, format_id


async def statistics_of(session: AsyncSession, endpoint_id: UUID, *, hours: int, now: datetime) -> EndpointStatistics:
    """The numbers of the last hours."""
    since = now - timedelta(hours=hours)
    receipts, refusals = EndpointRepository(session), RefusalRepository(session)
    counts = await receipts.receipt_counts(endpoint_id, since=since)
    promptness = await receipts.promptness(endpoint_id, since=since)
    by_reason = await refusals.refused_by_reason(format_id(IdKind.ENDPOINT, endpoint_id), since=since)
    last = await refusals.last_refusal(endpoint_id)
    refused = sum(by_reason.values())
    of = counts.by_status.get
    return EndpointStatistics(
        hours=hours,
        received=counts.webhooks,
        waiting=of(ReceiptStatus.RECEIVED, 0),
        held=of(ReceiptStatus.HELD, 0),
        processed=of(ReceiptStatus.PROCESSED, 0) + of(ReceiptStatus.STORED, 0),
        dead=of(ReceiptStatus.DEAD, 0),
        refused=refused,
        refused_by_reason=by_reason,
        verified_share=_share(counts.webhooks, refused),
        median_processing_s=promptness.median_s,
        p95_processing_s=promptness.p95_s,
        last_received_at=counts.last_received_at,
        last_processed_at=promptness.last_processed_at,
        last_refusal=None if last is None else LastRefusal.model_validate(last),
    )


def _share(received: int, refused: int) -> float | None:
    called = received + refused
    return round(received / called, 4) if called else None
