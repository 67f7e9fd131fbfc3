"""Questions about refused webhooks, within one tenant's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Integer, cast, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import AuditEntry
from crossdock.features.inbound.models import Endpoint, EndpointSecret, RefusedWebhook
from crossdock.features.inbound.repository import ENDPOINT_KIND, REFUSED
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor

# Of each endpoint: what a person looks through, and a flood cannot make more of.
SAMPLES_KEPT = 20
_MOST_SECRETS = 80


@dataclass(frozen=True, slots=True)
class OwnedSecret:
    """A stored secret, and the endpoint it belongs to."""

    endpoint: Endpoint
    secret: EndpointSecret


class RefusalRepository:
    """Queries over one tenant's refused webhooks."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def refusals(self, page: PageRequest, *, endpoint_id: UUID) -> Sequence[RefusedWebhook]:
        """One page of what an endpoint refused, newest first, and one more if another page follows."""
        query = newest_first(select(RefusedWebhook), RefusedWebhook.id, page)
        return (await self._session.scalars(query.where(RefusedWebhook.endpoint_id == endpoint_id))).all()

    async def last_refusal(self, endpoint_id: UUID) -> RefusedWebhook | None:
        """The newest sample of what an endpoint refused."""
        query = select(RefusedWebhook).where(RefusedWebhook.endpoint_id == endpoint_id)
        return (await self._session.scalars(query.order_by(RefusedWebhook.id.desc()).limit(1))).first()

    async def refused_by_reason(self, entity_id: str, *, since: datetime) -> dict[str, int]:
        """How many webhooks an endpoint refused since then, the most frequent reason first."""
        reason = AuditEntry.new["reason"].astext
        count = func.sum(cast(AuditEntry.new["count"].astext, Integer))
        found = await self._session.execute(
            select(reason, count)
            .where(
                AuditEntry.entity_kind == ENDPOINT_KIND,
                AuditEntry.entity_id == entity_id,
                AuditEntry.action == REFUSED,
                AuditEntry.id >= uuid_floor(since),
            )
            .group_by(reason)
            .order_by(count.desc(), reason)
        )
        return {row[0]: row[1] for row in found}

    async def secrets_with_preset(self, preset: str) -> Sequence[OwnedSecret]:
        """The secrets of the tenant's endpoints with this preset, the newest first, within bounds."""
        query = (
            select(Endpoint, EndpointSecret)
            .join(EndpointSecret, EndpointSecret.endpoint_id == Endpoint.id)
            .where(Endpoint.preset == preset)
            .order_by(EndpointSecret.id.desc())
            .limit(_MOST_SECRETS)
        )
        return [OwnedSecret(row[0], row[1]) for row in await self._session.execute(query)]

    async def still_there(self, endpoint_ids: Iterable[UUID]) -> set[UUID]:
        """Those of the endpoints that exist; they cannot be deleted before this transaction ends."""
        query = select(Endpoint.id).where(Endpoint.id.in_(endpoint_ids)).order_by(Endpoint.id)
        return set(await self._session.scalars(query.with_for_update(key_share=True, read=True)))

    async def keep(self, refusals: Iterable[RefusedWebhook]) -> None:
        """Add samples, and remove the oldest of the same endpoints beyond 20."""
        rows = list(refusals)
        there = await self.still_there({row.endpoint_id for row in rows})
        self._session.add_all(row for row in rows if row.endpoint_id in there)
        await self._session.flush()
        for endpoint_id in there:
            of_endpoint = RefusedWebhook.endpoint_id == endpoint_id
            newest = select(RefusedWebhook.id).where(of_endpoint).order_by(RefusedWebhook.id.desc())
            first_too_many = newest.offset(SAMPLES_KEPT).limit(1).scalar_subquery()
            await self._session.execute(delete(RefusedWebhook).where(of_endpoint, RefusedWebhook.id <= first_too_many))
