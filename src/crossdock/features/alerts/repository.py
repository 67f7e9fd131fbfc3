"""Queries about alerts."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.alerts.models import Alert
from crossdock.features.alerts.schemas import AlertFilter
from crossdock.http.pagination import PageRequest, newest_first

_COMPARED = ("status", "severity", "kind", "entity_kind", "entity_id")


async def alerts_on_page(
    session: AsyncSession, tenant_id: UUID, wanted: AlertFilter, page: PageRequest
) -> Sequence[Alert]:
    """The tenant's alerts that fit the filter, newest first, one more than the page holds."""
    query = select(Alert).where(Alert.tenant_id == tenant_id)
    for name in _COMPARED:
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(Alert, name) == value)
    if wanted.unresolved:
        query = query.where(Alert.resolved_at.is_(None))
    return (await session.execute(newest_first(query, Alert.id, page))).scalars().all()


async def alert_by_id(session: AsyncSession, tenant_id: UUID, alert_id: UUID, *, locked: bool = False) -> Alert | None:
    """One alert, if there is one; `locked` against others who change it."""
    query = select(Alert).where(Alert.tenant_id == tenant_id, Alert.id == alert_id)
    return (await session.execute(query.with_for_update() if locked else query)).scalar_one_or_none()
