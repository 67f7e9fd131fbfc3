"""Questions about endpoints, their secrets and what they received, within one tenant's transaction."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, any_, delete, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from crossdock.features.inbound.models import (
    Endpoint,
    EndpointSecret,
    EndpointStatus,
    Receipt,
    ReceiptStatus,
)
from crossdock.features.inbound.new_receipts import MOST_PARTS
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor

ENDPOINT_KIND = "webhook_endpoint"
REFUSED = "webhook.refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReceipts:
    """Which dead receipts: received in that time, with that text in their error, and of these ids, if given."""

    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    ids: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True)
class ReceiptCounts:
    """How many webhooks of a time there are, where their receipts stand, and when the newest of all came."""

    webhooks: int
    by_status: dict[ReceiptStatus, int]
    last_received_at: datetime | None


@dataclass(frozen=True, slots=True)
class Promptness:
    """How long it took from receiving to processing, in seconds, and when that was done last."""

    median_s: float | None
    p95_s: float | None
    last_processed_at: datetime | None


class EndpointRepository:
    """Queries over one tenant's endpoints and receipts."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def endpoint(self, endpoint_id: UUID, *, for_update: bool = False) -> Endpoint | None:
        """The endpoint of this id."""
        query = select(Endpoint).where(Endpoint.id == endpoint_id)
        return (await self._session.scalars(query.with_for_update() if for_update else query)).one_or_none()

    async def endpoints(
        self, page: PageRequest, *, status: EndpointStatus | None = None, preset: str | None = None
    ) -> Sequence[Endpoint]:
        """One page of endpoints, newest first, and one more if another page follows."""
        query = newest_first(select(Endpoint), Endpoint.id, page)
        if status is not None:
            query = query.where(Endpoint.status == status)
        if preset is not None:
            query = query.where(Endpoint.preset == preset)
        return (await self._session.scalars(query)).all()

    async def open_endpoints(self) -> Sequence[Endpoint]:
        """All endpoints that accept webhooks."""
        query = select(Endpoint).where(Endpoint.status != EndpointStatus.DISABLED)
        return (await self._session.scalars(query)).all()

    async def secrets_of(self, endpoint_ids: Sequence[UUID]) -> dict[UUID, list[EndpointSecret]]:
        """The secrets of each endpoint, the newest first."""
        query = select(EndpointSecret).where(EndpointSecret.endpoint_id.in_(endpoint_ids))
        found: dict[UUID, list[EndpointSecret]] = defaultdict(list)
        for secret in await self._session.scalars(query.order_by(EndpointSecret.id.desc())):
            found[secret.endpoint_id].append(secret)
        return found

    async def remove_secrets(self, secrets: Sequence[EndpointSecret]) -> None:
        """Delete these secrets."""
        ids = [secret.id for secret in secrets]
        await self._session.execute(delete(EndpointSecret).where(EndpointSecret.id.in_(ids)))

    async def tenant_slug(self) -> str:
        """The slug of the transaction's tenant."""
        slug: str = (await self._session.execute(text("SELECT slug FROM tenants"))).scalar_one()
        return slug

    async def receipt(self, receipt_id: UUID, *, for_update: bool = False) -> Receipt | None:
        """The receipt of this id."""
        query = select(Receipt).where(Receipt.id == receipt_id)
        return (await self._session.scalars(query.with_for_update() if for_update else query)).one_or_none()

    async def receipts(
        self,
        page: PageRequest,
        *,
        endpoint_id: UUID,
        status: ReceiptStatus | None = None,
        parent_id: UUID | None = None,
    ) -> Sequence[tuple[Receipt, int]]:
        """One page of an endpoint's receipts, with their bodies' sizes alone, and one more if another page follows."""
        size_bytes: Any = func.coalesce(Receipt.body_bytes, func.octet_length(Receipt.body))
        query = select(Receipt, size_bytes).options(defer(Receipt.body, raiseload=True))
        query = newest_first(query.where(Receipt.endpoint_id == endpoint_id), Receipt.id, page)
        if status is not None:
            query = query.where(Receipt.status == status)
        if parent_id is not None:
            # Their ids follow the parent's, so that no other need be looked at.
            last = UUID(int=parent_id.int + MOST_PARTS)
            query = query.where(Receipt.parent_id == parent_id, Receipt.id.between(parent_id, last))
        return [(row[0], row[1]) for row in await self._session.execute(query)]

    async def revive_dead(self, *, endpoint_id: UUID, wanted: DeadReceipts, limit: int) -> Sequence[UUID]:
        """Make the oldest such dead receipts of an endpoint `received` again; their ids."""
        dead = select(Receipt.id).where(Receipt.endpoint_id == endpoint_id, Receipt.status == ReceiptStatus.DEAD)
        if wanted.since is not None:
            dead = dead.where(Receipt.id >= uuid_floor(wanted.since))
        if wanted.until is not None:
            dead = dead.where(Receipt.id < uuid_floor(wanted.until))
        if wanted.error is not None:
            dead = dead.where(Receipt.error.icontains(wanted.error, autoescape=True))
        if wanted.ids is not None:
            dead = dead.where(Receipt.id.in_(wanted.ids))
        dead = dead.order_by(Receipt.id).limit(limit).with_for_update(skip_locked=True)
        # Asked for apart: as a part of the update they would be found by reading every receipt of the tenant.
        ids = (await self._session.scalars(dead)).all()
        revived = (
            update(Receipt)
            .where(Receipt.id == any_(literal(ids, ARRAY(Uuid))))
            .values(status=ReceiptStatus.RECEIVED, error=None, try_count=0, processed_at=None, retry_at=None)
            .returning(Receipt.id)
        )
        return (await self._session.scalars(revived)).all()

    async def receipt_counts(self, endpoint_id: UUID, *, since: datetime) -> ReceiptCounts:
        """How an endpoint's receipts since then stand."""
        of_endpoint = Receipt.endpoint_id == endpoint_id
        counts = await self._session.execute(
            select(Receipt.status, func.count(), func.count().filter(Receipt.parent_id.is_(None)))
            .where(of_endpoint, Receipt.id >= uuid_floor(since))
            .group_by(Receipt.status)
        )
        newest = await self._session.scalars(
            select(Receipt.received_at).where(of_endpoint).order_by(Receipt.id.desc()).limit(1)
        )
        rows = counts.all()
        return ReceiptCounts(sum(row[2] for row in rows), {row[0]: row[1] for row in rows}, newest.first())

    async def promptness(self, endpoint_id: UUID, *, since: datetime) -> Promptness:
        """How long an endpoint's receipts since then took to be processed."""
        took_s = func.extract("epoch", Receipt.processed_at - Receipt.received_at)
        quantiles = func.percentile_cont(array([0.5, 0.95])).within_group(took_s)
        found = await self._session.execute(
            select(quantiles, func.max(Receipt.processed_at)).where(
                Receipt.endpoint_id == endpoint_id,
                Receipt.id >= uuid_floor(since),
                Receipt.status.in_((ReceiptStatus.PROCESSED, ReceiptStatus.STORED)),
            )
        )
        taken, last_processed_at = found.one()
        median_s, p95_s = taken or (None, None)
        return Promptness(median_s, p95_s, last_processed_at)
